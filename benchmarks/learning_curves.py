"""Draw the learning curves of training runs together.

Usage: ``python benchmarks/learning_curves.py OUT.png MODEL...``; each MODEL is a folder that ``lumos train`` wrote.
"""

import argparse
import json
from pathlib import Path

from lumos.report.training import draw_learning


def main() -> None:
    """Draw them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("models", type=Path, nargs="+")
    arguments = parser.parse_args()
    curves = {}
    for model in arguments.models:
        lines = (model / "training" / "log.jsonl").read_text(encoding="utf-8").splitlines()
        curves[model.name] = [json.loads(line) for line in lines]
    draw_learning(arguments.out, curves)


if __name__ == "__main__":
    main()
