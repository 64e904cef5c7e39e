"""Imports follow the layers of docs/architecture.md."""

import ast
import re
from pathlib import Path

import hypernet_jax

from .conftest import REPOSITORY

PACKAGE = Path(hypernet_jax.__file__).parent


def order() -> list[list[str]]:
    """The packages and modules of each layer, lowest first, from the page's drawing."""
    page = (REPOSITORY / "docs/architecture.md").read_text()
    drawn = page.split("```storeys\n")[1].split("```")[0]
    return [re.findall(r"\w+", line.partition("#")[0]) for line in drawn.splitlines()][::-1]


def imports() -> dict[str, set[str]]:
    """All modules of the package, and the modules that each imports at any time."""
    found = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        name = ".".join(part for part in parts if part != "__init__")
        found[name] = set()
        for node in ast.walk(ast.parse(path.read_text())):
            names = []
            if isinstance(node, ast.ImportFrom):
                names = [node.module or "", *(f"{node.module}.{a.name}" for a in node.names)]
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            prefix = "hypernet_jax."
            found[name] |= {each.removeprefix(prefix) for each in names if each.startswith(prefix)}
    return {name: used & found.keys() - {name} for name, used in found.items()}


def test_no_import_points_upwards():
    storeys = order()
    rank = {room: index for index, rooms in enumerate(storeys) for room in rooms}
    for name, used in imports().items():
        if not name:  # the package itself, for its public names
            continue
        room = name.partition(".")[0]
        assert room in rank, f"{room} stands on no storey of docs/architecture.md"
        for other in {each.partition(".")[0] for each in used} - {room}:
            assert rank[other] < rank[room], f"{name} imports {other}, which is no lower"
    assert set(rank) == {name.partition(".")[0] for name in imports()} - {""}


def test_no_modules_import_each_other_in_a_circle():
    waiting = imports()
    while waiting:
        free = {name for name, used in waiting.items() if not used & waiting.keys()}
        assert free, f"these import each other in a circle: {sorted(waiting)}"
        waiting = {name: used for name, used in waiting.items() if name not in free}
