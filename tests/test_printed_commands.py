"""Every command that the tool prints can be pasted: it parses, and it works."""

import ast
import json
import re
import shlex
import shutil
from collections.abc import Callable, Iterator
from html import unescape
from pathlib import Path
from typing import Any

import click
import pytest
from PIL import Image

from featcache.cli import cli

Run = Callable[..., tuple[int, str, str]]
PACKAGE = Path(__file__).parent.parent / "featcache"
# What a person puts in the place of a word in capitals.
WORDS = {"SOURCE": "chest.csv", "COLUMN": "lungs", "BACKBONE": "metadata"}


def commands_in(text: str) -> list[str]:
    """The commands behind a colon, as "Run: featcache scan SOURCE."."""
    lines = []
    for part in re.findall(
        r": (featcache [a-z].*?)(?=: |[.,;]?\s*$|[.,;:] | \()", text
    ):
        lines += [line.removesuffix(".") for line in part.split(" && ")]
    return lines


def parse(line: str) -> None:
    """Lets the command line take a line, without running it."""
    program, *words = shlex.split(line)
    assert program == "featcache"
    command: click.Command = cli
    context = click.Context(cli)
    while isinstance(command, click.Group):
        name, command, words = command.resolve_command(context, words)
    command.make_context(name, words)


def literals() -> Iterator[tuple[str, str]]:
    """Commands in the texts of the package, X for what is filled in, and their file."""
    for path in sorted(PACKAGE.rglob("*.py")):
        nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
        joined = [node for node in nodes if isinstance(node, ast.JoinedStr)]
        inner = {id(part) for node in joined for part in node.values}
        for node in nodes:
            if id(node) in inner:
                continue
            if isinstance(node, ast.JoinedStr):
                parts = [getattr(v, "value", "") for v in node.values]
                text = "".join(p if isinstance(p, str) else "X" for p in parts)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                text = node.value
            else:
                continue
            if "\n" not in text:
                for line in commands_in(text):
                    yield path.relative_to(PACKAGE).as_posix(), line


@pytest.mark.parametrize(("file", "line"), sorted(set(literals())))
def test_commands_in_texts_parse(file: str, line: str) -> None:
    """Each command that a text of the package recommends is one."""
    parse(line)


@pytest.fixture
def study(image_folder: Path, toy_network: Path, tmp_path: Path, run: Run) -> Path:
    """Two datasets, one of them with features of a network in a folder with a space."""
    network = tmp_path / "my nets" / "own net.keras"
    network.parent.mkdir()
    shutil.copy(toy_network, network)
    shutil.copy(toy_network.with_suffix(".json"), network.with_suffix(".json"))
    rows = ["path,label,lungs"]
    for number, path in enumerate(sorted(image_folder.rglob("*.*"))):
        mask = tmp_path / f"lungs{number}.png"
        with Image.open(path) as image:
            lungs = Image.new("L", image.size, 0)
            lungs.paste(255, (8, 8, 24, 24))
            lungs.save(mask)
        rows.append(f"{path},{path.parent.name},{mask}")
    (tmp_path / "chest.csv").write_text("\n".join(rows))
    for name in ("other", "my xrays"):
        words = ["scan", "chest.csv", "--dataset", name, "--group-by", "image"]
        assert run(*words)[0] == 0
    words = ["--dataset", "my xrays", "-b", network.relative_to(tmp_path)]
    assert run("extract", *words)[0] == 0
    return network


TRAIN = ("train-head", "--dataset", "my xrays", "-b", "own net")
QUICK = ("-H", "logreg", "--no-tune", "--no-calibrate", "--test-size", 0.25)

QUICK_HEAD = ("-H", "logreg", "--no-tune")


def of_page(path: Path) -> list[str]:
    """The commands in the code of a page."""
    page = path.read_text(encoding="utf-8")
    code = re.findall(r"<code>(.*?)</code>", page, re.DOTALL)
    text = "\n".join(unescape(re.sub(r"<[^>]+>", "", one)) for one in code)
    lines = text.replace("\\\n", " ").splitlines()
    parts = [part for line in lines for part in line.split(" && ")]
    return [part.strip() for part in parts if part.strip().startswith("featcache ")]


def printed(run: Run) -> list[str]:
    """The commands that a study prints: its calls, their errors, audit and page."""
    trained = run(*TRAIN, *QUICK)
    assert trained[0] == 0, trained
    outputs = [
        trained,
        run(*TRAIN, "--views", 2),
        run(*TRAIN, "--taps", "conv2d:max"),
        run("train-head", "--dataset", "other"),
        run("train-head", "--dataset", "my xrays", "-b", "own net+metadata"),
        run("cache", "info", "nothing"),
        run("cache", "ls", "--cache", "empty"),
        run("dataset", "ls", "--cache", "empty"),
        run("audit", "--dataset", "other"),
    ]
    audited = run("audit", "--dataset", "my xrays", "--json")
    lines = [line for _, *texts in outputs for text in texts for line in of(text)]
    messages = [row["message"] for row in json.loads(audited[1])]
    lines += [line for message in messages for line in of(message)]
    assert run("compare", "--dataset", "my xrays", "--html")[0] == 0
    return [*dict.fromkeys(lines + of_page(Path("reports/my xrays/report.html")))]


def of(text: str) -> list[str]:
    """The commands in the lines of an output."""
    return [line for row in text.splitlines() for line in commands_in(row.strip())]


def test_printed_commands_parse(study: Path, run: Run) -> None:
    """Names with spaces are quoted, and a network's file is told with its folder."""
    lines = printed(run)
    for line in lines:
        parse(line)
    extracts = [line for line in lines if "own net.keras" in line]
    assert all(f"'{study}'" in line for line in extracts)
    assert len(extracts) >= 2
    others = [line for line in lines if "--dataset" not in line]
    assert set(others) <= {
        "featcache cache ls",
        "featcache scan SOURCE",
        "featcache extract SOURCE -b BACKBONE",
    }


@pytest.mark.slow
def test_printed_commands_work(study: Path, run: Run) -> None:
    """Each ends well when it is pasted, the words in capitals replaced."""
    lines = printed(run)
    failures: list[Any] = []
    # A scan comes last, for it changes what all others were printed for.
    for line in sorted(lines, key=lambda line: line.startswith("featcache scan")):
        words = [WORDS.get(word, word) for word in shlex.split(line)[1:]]
        if words[0] == "train-head":  # all heads would take minutes
            words = [*words, *QUICK_HEAD] if "-H" not in words else words
        code, _, err = run(*words)
        failures += [(line, err)] if code else []
    assert len(lines) > 20
    assert not failures
