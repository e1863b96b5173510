"""The layers import only downward, and heavy libraries stay in the layers that may use them."""

import ast
from collections.abc import Iterator
from pathlib import Path

import lumos

PACKAGE = Path(lumos.__file__).parent
LAYERS = {
    **dict.fromkeys(["errors", "conventions", "files", "flags", "outputs", "psf", "workers", "__init__"], 0),
    **dict.fromkeys(["surveys", "images", "catalogs", "profiles", "pdf"], 1),
    **dict.fromkeys(["estimators", "simulate"], 2),
    "nets": 3,
    **dict.fromkeys(["measure", "training"], 4),
    "validate": 5,
    "report": 6,
    **dict.fromkeys(["settings", "workflows", "cli", "console", "__main__"], 7),
}
#: Folders of one layer do not import each other, except these.
SIDEWAYS = {
    ("images", "surveys"),
    ("psf", "conventions"),
    ("psf", "errors"),
    ("files", "errors"),
    ("outputs", "errors"),
    ("outputs", "files"),
    ("simulate", "estimators"),
}
ONLY_IN = {
    "torch": {"profiles", "estimators", "simulate", "nets", "training", "measure"},
    "galsim": {"profiles"},
    "matplotlib": {"report"},
}


def imports() -> Iterator[tuple[str, str, str]]:
    """Yield (file, its room, imported module) for every import statement."""
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        for node in ast.walk(ast.parse(path.read_text())):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module is not None:
                names = [node.module]
            for name in names:
                yield str(path.relative_to(PACKAGE)), parts[0], name


def test_every_room_has_a_layer():
    rooms = {path.relative_to(PACKAGE).with_suffix("").parts[0] for path in PACKAGE.rglob("*.py")}
    assert rooms == set(LAYERS)


def test_imports_point_downward():
    wrong = []
    for path, room, name in imports():
        parts = name.split(".")
        if parts[0] != "lumos" or len(parts) == 1 or parts[1] == room:
            continue
        sideways_ok = (room, parts[1]) in SIDEWAYS or LAYERS[room] == 7
        if LAYERS[parts[1]] > LAYERS[room] or (LAYERS[parts[1]] == LAYERS[room] and not sideways_ok):
            wrong.append(f"{path} imports {name}")
    assert not wrong


def test_heavy_libraries_stay_in_their_rooms():
    wrong = [
        f"{path} imports {name}"
        for path, room, name in imports()
        if room not in ONLY_IN.get(name.split(".")[0], {room})
    ]
    assert not wrong
