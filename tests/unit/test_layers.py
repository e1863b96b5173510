"""A room imports only rooms before it, without circles; heavy libraries stay in the rooms that may use them."""

import ast
from collections.abc import Iterator
from pathlib import Path

import lumos

PACKAGE = Path(lumos.__file__).parent
#: From the ground up: each room imports only itself and what stands before it.
ROOMS = [
    *("conventions", "errors", "flags", "scan", "files", "remote", "psfs", "threads", "config", "statistics", "rows"),
    *("pdf", "spectra", "catalogs", "profiles", "surveys", "images", "cameras", "runs", "estimators"),
    *("background", "scenes", "pools", "sources", "simulate", "teahupoo", "nets"),
    *("photometry", "training", "coadds", "photoz", "adaptation", "injection"),
    *("validate", "report", "exports"),
    *("settings", "workflows", "api", "cli", "__main__"),
    # It names what the API has; nothing of it is imported before it is used.
    "__init__",
]
#: What only some rooms may import: matplotlib is slow, torch is large, galsim is a reference for tests.
ONLY_IN = {
    "torch": {
        "rows",
        "profiles",
        "estimators",
        "background",
        "scenes",
        "pools",
        "sources",
        "simulate",
        "teahupoo",
        "nets",
        "photometry",
        "training",
        "photoz",
        "adaptation",
        "threads",
    },
    "galsim": {"profiles"},
    # A PDF draws itself in a notebook; matplotlib is imported when it is asked to.
    "matplotlib": {"report", "pdf"},
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


def test_every_room_has_its_place():
    rooms = {path.relative_to(PACKAGE).with_suffix("").parts[0] for path in PACKAGE.rglob("*.py")}
    assert rooms == set(ROOMS)
    assert len(ROOMS) == len(set(ROOMS))


def test_rooms_import_only_rooms_before_them():
    place = {room: number for number, room in enumerate(ROOMS)}
    wrong = [
        f"{path} imports {name}"
        for path, room, name in imports()
        if (parts := name.split("."))[0] == "lumos" and len(parts) > 1 and place[parts[1]] > place[room]
    ]
    assert not wrong


def test_no_circles_among_files():
    files = {path.relative_to(PACKAGE).with_suffix("").as_posix().replace("/", ".") for path in PACKAGE.rglob("*.py")}
    needs: dict[str, set[str]] = {name: set() for name in files}
    for path, _, name in imports():
        target = name.removeprefix("lumos.")
        if target in files:
            needs[path.removesuffix(".py").replace("/", ".")].add(target)
    while free := [name for name, needed in needs.items() if not needed]:
        for name in free:
            del needs[name]
        for needed in needs.values():
            needed.difference_update(free)
    assert not needs


def test_heavy_libraries_stay_in_their_rooms():
    wrong = [
        f"{path} imports {name}"
        for path, room, name in imports()
        if room not in ONLY_IN.get(name.split(".")[0], {room})
    ]
    assert not wrong
