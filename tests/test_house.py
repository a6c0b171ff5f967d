"""The house: floors, sizes, and an import that loads nothing heavy."""

import ast
import re
import statistics
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "featcache"
FILES = sorted(PACKAGE.rglob("*.py"))
HEAVY = (
    "tensorflow", "keras", "sklearn", "h5py", "xgboost", "pandas", "numpy", "scipy",
    "PIL", "joblib", "rich",
)  # fmt: skip
# Words for how a value came about, where a noun says what it is.
BANNED = {
    *("found", "told", "asked", "given", "judged", "chosen", "places", "drawn"),
    *("lacking", "taker", "shown", "way_out", "left_out", "suited", "laid"),
}
# A library and the only part of the package that may import it.
DOORS = {
    "dask": "featcache.core.workers.dask",
    "distributed": "featcache.core.workers.dask",
    "fsspec": "featcache.dataset.sources.remote",
    "h5py": "featcache.features.store",
    "click": "featcache.cli",
    "ray": "featcache.core.workers.ray",
    "starlette": "featcache.serve",
    "uvicorn": "featcache.serve",
    "tensorflow": "featcache.core.tf",
    "torch": "featcache.backbones.exporting",
    "timm": "featcache.backbones.exporting",
    "transformers": "featcache.backbones.exporting",
    "torchxrayvision": "featcache.backbones.exporting",
}
NETWORKS = (
    "tensorflow", "keras", "torch", "timm", "transformers", "torchxrayvision",
)  # fmt: skip


class Import(NamedTuple):
    """One imported module, and how it is imported."""

    module: str
    at_top: bool
    for_types: bool


def name_of(path: Path) -> str:
    """``featcache/heads/base.py`` is ``featcache.heads.base``."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in FILES}


def part_of(module: str) -> str:
    """The part of the house: a file or a folder of the package."""
    return module.split(".")[1]


def floors() -> dict[str, int]:
    """The table of CONTRIBUTING.md: part to floor."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d) [^|]*\|([^|]*)\|", text, re.MULTILINE)
    return {
        part.strip("/"): int(floor)
        for floor, parts in rows
        for part in re.findall(r"`([\w/]+)`", parts)
    }


def modules_of(node: ast.AST) -> list[str]:
    """What an import statement names; a module where there is one of that name."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        assert node.module, "imports are absolute"
        names = [f"{node.module}.{alias.name}" for alias in node.names]
        return [name if name in MODULES else node.module for name in names]
    return []


@cache
def imports(module: str) -> list[Import]:
    """Every import of a module, those inside functions too."""

    def walk(node: ast.AST, at_top: bool, for_types: bool) -> Iterator[Import]:
        for name in modules_of(node):
            yield Import(name, at_top, for_types)
        at_top &= not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for_types = True
        for child in ast.iter_child_nodes(node):
            yield from walk(child, at_top, for_types)

    return list(walk(ast.parse(MODULES[module].read_text()), True, False))


INSIDE = sorted(set(MODULES) - {"featcache"})


def test_every_part_has_a_floor() -> None:
    """CONTRIBUTING's table names every file and folder of the package, and no other."""
    assert set(floors()) == {part_of(module) for module in INSIDE}


@pytest.mark.parametrize("module", INSIDE)
def test_imports_go_down(module: str) -> None:
    """A module imports from lower floors; for type hints, also from its own."""
    floor, here = floors(), part_of(module)
    wrong = []
    for found in imports(module):
        if not found.module.startswith("featcache"):
            continue
        assert found.module != "featcache", "the package's own door is for users"
        there = part_of(found.module)
        if there not in (here, "errors"):  # errors carry all floors
            highest = floor[here] - (not found.for_types)
            wrong += [found.module] * (floor[there] > highest)
    assert not wrong


def test_commands_do_not_know_each_other() -> None:
    """What two commands need stands on a floor below both."""

    def command(module: str) -> str:
        return ".".join(module.split(".")[:3])

    wrong = [
        (module, there.module)
        for module in INSIDE
        for there in imports(module)
        if part_of(module) == "commands"
        and there.module.startswith("featcache.commands.")
        and command(there.module) != command(module)
    ]
    assert wrong == []


def test_nothing_imports_in_a_circle() -> None:
    """Modules import those below them, never in a circle."""
    graph: dict[str, set[str]] = defaultdict(set)
    for module in INSIDE:
        for there in imports(module):
            if there.module in MODULES and not there.for_types:
                graph[module].add(there.module)
    TopologicalSorter(graph).prepare()  # raises CycleError


def test_the_house_has_few_rooms() -> None:
    """A newcomer reads no more than 16 names at the top of the package."""
    assert len(floors()) <= 16


@pytest.mark.parametrize(("library", "door"), DOORS.items())
def test_one_door_a_library(library: str, door: str) -> None:
    """h5py stays in the store, click in the command line, PyTorch in the export."""
    users = {
        module
        for module in INSIDE
        for found in imports(module)
        if found.module.split(".")[0] == library and not found.for_types
    }
    assert [m for m in users if not f"{m}.".startswith(f"{door}.")] == []


def test_networks_are_imported_late() -> None:
    """TensorFlow, Keras and PyTorch are imported inside functions only."""
    early = [
        (module, found.module)
        for module in INSIDE
        for found in imports(module)
        if found.at_top
        and not found.for_types
        and found.module.split(".")[0] in NETWORKS
    ]
    assert early == []


def bodies() -> Iterator[tuple[str, int]]:
    """Name of every function, and its lines without signature and docstring."""
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                body = node.body[1:] if ast.get_docstring(node) else node.body
                lines = body[-1].end_lineno - body[0].lineno + 1 if body else 0
                yield f"{path.name}:{node.name}", lines


def test_sizes() -> None:
    """Files have at most 400 lines; bodies 60, 9 of 10 at most 18, half at most 6."""
    files = [*FILES, *(ROOT / "tests").rglob("*.py")]
    assert [p.name for p in files if len(p.read_text().splitlines()) > 400] == []
    lines_of = list(bodies())
    assert [name for name, lines in lines_of if lines > 60] == []
    sizes = [lines for _, lines in lines_of]
    assert statistics.median(sizes) <= 6
    assert statistics.quantiles(sizes, n=10)[-1] <= 18


def test_tests_of_the_wheel_are_where_make_looks_for_them() -> None:
    """`make test-release` and `make test-extras` collect one folder alone."""
    pattern = r"mark\.(release|extras)\b"
    files = (ROOT / "tests").rglob("test_*.py")
    marked = {
        path.parent.name for path in files if re.search(pattern, path.read_text())
    }
    assert marked == {"release"}


def names_in(node: ast.AST) -> list[str]:
    """What a node names: a variable, parameter, attribute, function or class."""
    if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
        return [node.id]
    if isinstance(node, ast.arg):
        return [node.arg]
    if isinstance(node, ast.Attribute):
        return [node.attr]
    if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.ExceptHandler):
        return [node.name or ""]
    if isinstance(node, ast.MatchAs | ast.MatchStar):
        return [node.name or ""]
    return [node.asname or ""] if isinstance(node, ast.alias) else []


@pytest.mark.parametrize("path", FILES, ids=lambda path: name_of(path))
def test_names_say_what_a_value_is(path: Path) -> None:
    """No variable, parameter, attribute or function is named by a banned word."""
    tree = ast.parse(path.read_text())
    banned = [
        (node.lineno, name)
        for node in ast.walk(tree)
        for name in names_in(node)
        if name.lstrip("_") in BANNED
    ]
    assert banned == []


@pytest.mark.parametrize(
    "code",
    ["import featcache"]
    + [
        f"import featcache.cli as c; c.cli.main({arguments}, standalone_mode=False)"
        for arguments in (["--help"], ["extract", "--help"], ["train-head", "--help"])
    ],
)
def test_nothing_heavy_is_loaded(code: str) -> None:
    """Neither the import nor ``--help`` loads a library that takes time to load."""
    code += f"; import sys; sys.exit(str({{*{HEAVY}}} & {{*sys.modules}} or ''))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr.strip() == ""


def test_the_launcher_of_a_checkout() -> None:
    """``python cli.py --help`` at the root of the repository lists the commands."""
    done = subprocess.run(
        [sys.executable, "cli.py", "--help"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0
    assert "train-head" in done.stdout
