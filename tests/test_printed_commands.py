"""Every command that the tool prints can be pasted: it parses, and it works."""

import ast
import json
import re
import shlex
import shutil
from collections.abc import Callable, Iterator
from html import unescape
from itertools import pairwise
from pathlib import Path
from typing import Any

import click
import pytest
from PIL import Image

from featcache.cli import cli
from featcache.core.command_lines import OPTIONS, Folders, from_here

Run = Callable[..., tuple[int, str, str]]
PACKAGE = Path(__file__).parent.parent / "featcache"
# What a person puts in the place of a word in capitals.
WORDS = {
    "SOURCE": "chest.csv", "FOLDER/chest.csv": "chest.csv", "COLUMN": "lungs",
    "BACKBONE": "metadata",
}  # fmt: skip


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
        code = path.read_text(encoding="utf-8")
        if not re.search(r"featcache(?! import\b|[\w.\[/-])", code):
            continue  # no command in it: each worker reads the whole package here
        nodes = list(ast.walk(ast.parse(code)))
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


NAMED = {"cache": "my cache", "reports": "all reports"}


def commands(
    group: click.Group, before: tuple[str, ...] = ()
) -> Iterator[tuple[str, click.Command]]:
    """Each command with its whole name."""
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, (*before, name))
        else:
            yield " ".join((*before, name)), command


def test_which_commands_take_folders() -> None:
    """The table of the options --cache and --reports is that of the command line."""
    names = {
        name: tuple(p.name for p in command.params if p.name in ("cache", "reports"))
        for name, command in commands(cli)
    }
    names["review"] = names["review open"]  # which may be left out
    assert {name: options for name, options in names.items() if options} == OPTIONS


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Run: featcache scan X.", "Run: featcache scan --cache 'a b' X."),
        ("(featcache cache ls)", "(featcache cache ls --cache 'a b' --reports r)"),
        ("featcache scan --cache c X", "featcache scan --cache c X"),
        ("featcache bundle show F", "featcache bundle show F"),
        ("A=1 featcache audit", "A=1 featcache audit --cache 'a b' --reports r"),
        ("featcache-demo, ./featcache run", "featcache-demo, ./featcache run"),
    ],
)
def test_completed_commands(text: str, expected: str) -> None:
    """A command has the folders that it can take, each once."""
    assert Folders(Path("a b"), Path("r")).complete(text) == expected


def test_usual_folders_are_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """./cache is told only where the environment names another."""
    folders, line = Folders(Path("cache"), Path.cwd() / "reports"), "featcache audit"
    assert folders.complete(line) == line
    monkeypatch.setenv("FEATCACHE_CACHE", "elsewhere")
    assert folders.complete(line) == f"{line} --cache cache"
    assert Folders(Path("elsewhere")).complete(line) == f"{line} --cache elsewhere"


def test_files_as_commands_name_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Relative below the current folder, else absolute."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert from_here(tmp_path / "here/nets/a.keras") == "nets/a.keras"
    assert from_here("nets/a.keras") == "nets/a.keras"
    assert from_here("../a.keras") == str(tmp_path / "a.keras")


@pytest.fixture(params=[pytest.param({}, marks=pytest.mark.slow, id="usual"), NAMED])
def folders(request: pytest.FixtureRequest) -> dict[str, str]:
    """Folders of cache and reports, as far as they are not the usual ones."""
    return dict(request.param)


@pytest.fixture
def call(run: Run, folders: dict[str, str]) -> Run:
    """Runs the command line with these folders."""

    def with_folders(*words: object) -> tuple[int, str, str]:
        text = [str(word) for word in words]
        name = next(n for n in OPTIONS if text[: len(n.split())] == n.split())
        for option in OPTIONS[name]:
            if option in folders and f"--{option}" not in text:
                text += [f"--{option}", folders[option]]
        return run(*text)

    return with_folders


@pytest.fixture
def study(image_folder: Path, toy_network: Path, tmp_path: Path, call: Run) -> Path:
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
        assert call(*words)[0] == 0
    words = ["--dataset", "my xrays", "-b", network.relative_to(tmp_path)]
    assert call("extract", *words)[0] == 0
    return network.relative_to(tmp_path)


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


def printed(run: Run, reports: str) -> list[str]:
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
    return [*dict.fromkeys(lines + of_page(Path(reports, "my xrays/report.html")))]


def of(text: str) -> list[str]:
    """The commands in the lines of an output."""
    return [line for row in text.splitlines() for line in commands_in(row.strip())]


def test_printed_commands_parse(
    study: Path, call: Run, folders: dict[str, str]
) -> None:
    """Names with spaces are quoted, a network's file and the folders are told."""
    lines = printed(call, folders.get("reports", "reports"))
    for line in lines:
        parse(line)
        words = shlex.split(line)
        name = next(n for n in OPTIONS if f"{line} ".startswith(f"featcache {n} "))
        for option in OPTIONS[name]:
            expected = [folders[option]] if option in folders else []
            if "--cache empty" not in line:
                assert folder_in(words, f"--{option}") == expected
    extracts = [line for line in lines if "own net.keras" in line]
    assert all(f" '{study}'" in line for line in extracts)
    assert len(extracts) >= 2
    others = [line for line in lines if "--dataset" not in line]
    others = [re.sub(r" --(cache|reports) ('.*?'|\S+)", "", line) for line in others]
    assert set(others) <= {
        "featcache cache ls",
        "featcache scan SOURCE",
        "featcache extract SOURCE -b BACKBONE",
    }


def folder_in(words: list[str], option: str) -> list[str]:
    """What a command says behind an option."""
    return [after for word, after in pairwise(words) if word == option]


@pytest.mark.slow
@pytest.mark.parametrize("folders", [NAMED], indirect=True)
def test_printed_commands_work(
    study: Path, call: Run, run: Run, folders: dict[str, str]
) -> None:
    """Each ends well when it is pasted, the words in capitals replaced."""
    lines = printed(call, folders.get("reports", "reports"))
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
    for option, usual in (("cache", "cache"), ("reports", "reports")):
        assert Path(usual).exists() == (option not in folders)
