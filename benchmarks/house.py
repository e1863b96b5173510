"""How well the rooms are kept: circles, long files, full folders, long parameter lists, untyped dictionaries.

Run: ``python benchmarks/house.py``
"""

import ast
from collections import Counter
from pathlib import Path

import lumos

PACKAGE = Path(lumos.__file__).parent
MANY_PARAMETERS = 7


def parameters(function: ast.FunctionDef) -> int:
    """Return the number of parameters of a function, without ``self`` and ``cls``."""
    arguments = function.args
    names = [one.arg for one in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
    return len([name for name in names if name not in {"self", "cls"}])


def main() -> None:
    """Print the figures."""
    files = sorted(PACKAGE.rglob("*.py"))
    lines = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in files}
    print(f"files {len(files)}, lines {sum(lines.values())}, longest {max(lines.values())}")
    print(
        f"files over 400 lines {sum(n > 400 for n in lines.values())}, over 300 {sum(n > 300 for n in lines.values())}"
    )
    folders = Counter(path.parent.relative_to(PACKAGE).as_posix() for path in files if path.name != "__init__.py")
    name, most = folders.most_common(1)[0]
    print(f"largest folder {name}: {most} files beside __init__.py")
    long = [
        f"{path.relative_to(PACKAGE)}:{node.name} {parameters(node)}"
        for path in files
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef) and parameters(node) >= MANY_PARAMETERS and not commands(path)
    ]
    print(f"functions with {MANY_PARAMETERS} parameters or more {len(long)}")
    for one in long:
        print(f"  {one}")
    text = "\n".join(path.read_text(encoding="utf-8") for path in files)
    print(f"dict[str, Any] {text.count('dict[str, Any]')}")
    for what, word in (("process pools", "ProcessPoolExecutor("), ("readers of YAML", "yaml.load(")):
        print(f"{what} {text.count(word)}")


def commands(path: Path) -> bool:
    """Tell whether the functions of a file are commands, whose parameters are options of the shell."""
    return path.parent.name == "cli"


if __name__ == "__main__":
    main()
