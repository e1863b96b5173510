"""Learning curves."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

__all__ = ["draw_learning"]


def draw_learning(path: Path, curves: Mapping[str, Sequence[Mapping[str, float]]]) -> None:
    """Draw the validation loss of training runs against stamps and against time, and their calibration.

    Parameters
    ----------
    path : Path
        PNG file to write.
    curves : mapping
        Lines of ``log.jsonl`` by the name of the run.
    """
    figure = Figure(figsize=(13, 4), layout="constrained")
    stamps, minutes, calibration = figure.subplots(1, 3)
    for name, curve in curves.items():
        loss = [line["loss"] for line in curve]
        seen = [line["n_stamps"] for line in curve]
        stamps.plot(seen, loss, "o-", ms=3, lw=1, label=name)
        minutes.plot([line["minutes"] for line in curve], loss, "o-", ms=3, lw=1, label=name)
        calibration.plot(seen, [line["pit_ks"] for line in curve], "o-", ms=3, lw=1, label=name)
    stamps.set(xlabel="stamps seen", ylabel="validation loss (nats)", xscale="log")
    minutes.set(xlabel="minutes", ylabel="validation loss (nats)", xlim=(0, None))
    calibration.set(xlabel="stamps seen", ylabel="PIT, Kolmogorov-Smirnov", xscale="log", ylim=(0, None))
    stamps.legend(frameon=False, fontsize="small")
    figure.savefig(path, dpi=110)
