"""Documents are executed: what they say of commands, options, files is true."""

import inspect
import json
import re
import runpy
import shlex
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import h5py
import numpy as np
import pandas as pd
import pytest
from toys import picture

import featcache
from featcache import (
    backbones,
    cache,
    doctor,
    manifest,
    phantom,
    regions,
    runs,
    store,
    views,
)
from featcache.audit import audit
from featcache.backbones import BACKBONES, BASELINES, NETWORKS, Network
from featcache.cli import cli
from featcache.compare import METRICS, compare
from featcache.ensemble import ensemble
from featcache.errors import FeatcacheError
from featcache.explain import explain
from featcache.extract import extract
from featcache.extract.plan import contract
from featcache.finetune import finetune
from featcache.heads import HEADS
from featcache.report import pictures
from featcache.scan import scan
from featcache.sources import SUFFIXES
from featcache.study import demo
from featcache.study import run as run_study
from featcache.train_head import train_head

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    page
    for folder in (".", "cache", "docs", "docs/decisions", "reports")
    for page in (ROOT / folder).glob("*.md")
)


def commands(
    group: click.Group, above: str = ""
) -> Iterator[tuple[str, click.Command]]:
    """Every command by its words, such as "cache ls"."""
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, f"{above}{name} ")
        else:
            yield above + name, command


COMMANDS = dict(commands(cli))
# The fewest words with which each command parses.
LEAST = {
    "scan": ["here"],
    "extract": ["-b", "densenet121"],
    "finetune": ["-b", "densenet121"],
    "ensemble": ["all"],
    "explain": ["run"],
    "run": ["study.toml"],
    "cache info": ["store"],
    "cache export": ["store", "--to", "file.csv"],
}
# The library functions behind each command.
BEHIND: dict[str, list[Callable[..., Any]]] = {
    "scan": [scan],
    "extract": [extract, scan, views.Policy, regions.Region, backbones.resolve],
    "train-head": [train_head],
    "finetune": [finetune, views.Policy, backbones.resolve],
    "ensemble": [ensemble],
    "compare": [compare],
    "explain": [explain, pictures.write],
    "audit": [audit],
    "run": [run_study],
    "demo": [demo.demo, phantom.write],
    "cache ls": [cache.ls],
    "cache info": [cache.info],
    "cache verify": [cache.verify],
    "cache prune": [cache.prune],
    "cache export": [cache.export],
    "doctor": [doctor.doctor],
}
# Options that are the door's own business.
AT_THE_DOOR = {
    "as_json", "cache", "confusion", "data_only", "dataset", "dry_run",
    "file", "html", "names", "reports",
    "source", "store", "stores", "strict", "style",
}  # fmt: skip


def read(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", read(page), re.DOTALL | re.M)


def rows(text: str) -> list[list[str]]:
    """Cells of all table rows of a text."""
    lines = re.findall(r"^\|(.*)\|$", text.replace(r"\|", "/"), re.MULTILINE)
    return [[cell.strip() for cell in line.split("|")] for line in lines]


def section(command: str) -> str:
    """What docs/commands.md says of a command."""
    found = re.search(
        rf"^## featcache {command}\n(.*?)(?=^## |\Z)",
        read("docs/commands.md"),
        re.DOTALL | re.MULTILINE,
    )
    assert found, f"{command} is not in docs/commands.md"
    return found[1]


def documented(command: str) -> dict[tuple[str, ...], str]:
    """Options of a command in docs/commands.md, with the cell of their default."""
    return {
        tuple(re.findall(r"--?[a-zA-Z][\w-]*", row[0])): row[1]
        for row in rows(section(command))
        if row[0].startswith("`-")
    }


def options(command: str) -> dict[str, click.Option]:
    found = COMMANDS[command].params
    return {p.name: p for p in found if isinstance(p, click.Option) and p.name}


def defaults(command: str) -> dict[str, Any]:
    """What a command gets when nothing but the necessary is given."""
    words = list(LEAST.get(command, []))  # click empties the list
    return COMMANDS[command].make_context(command, words).params


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FEATCACHE_CACHE", raising=False)


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The study of the documents: 36 X-rays of 18 patients, and two stores."""
    monkeypatch.chdir(tmp_path)
    lines = ["path,label,patient,sex"]
    Path("xrays").mkdir()
    for i in range(36):
        label = ("COVID", "NORMAL", "Viral Pneumonia")[i % 3]
        picture(i, 100).save(f"xrays/{i}.png")
        lines.append(f"{i}.png,{label},P{i % 18:02d},{'FM'[i % 2]}")
    Path("xrays/metadata.csv").write_text("\n".join(lines))
    found = scan(Path("xrays/metadata.csv"), Path("cache"), group_by="patient").manifest
    with zipfile.ZipFile("squeezenet.keras", "w") as archive:
        archive.writestr("config.json", "{}")
    row = backbones.resolve("densenet121", "random")
    own = backbones.resolve("squeezenet.keras", preprocess="caffe", input_size=224)
    folder = found.folder / "features"
    write_store(row, found, folder / "densenet121-imagenet-7c0e41aa.h5")
    write_store(own, found)
    return tmp_path


_PLAN: Any = SimpleNamespace(precision="float32", dtype="float32")


def write_store(
    network: Network, found: manifest.Manifest, path: Path | None = None
) -> None:
    """Publishes embeddings that nearly tell the class, with two views."""
    header = store.Header(
        contract(_PLAN, network) | {"weights_digest": "none"},
        [views.Policy().to_dict()], network.weights,
        backbones.weights_key(network) or "", "by hand", {}, {},
    )  # fmt: skip
    path = path or store.store_path(found.folder / "features", header)
    ok = found.ok
    view = np.tile(np.arange(3), len(ok))
    keys = ok.loc[ok.index.repeat(3), ["image_id", "path"]].assign(
        view=view, policy=np.where(view == 0, store.NO_POLICY, 0)
    )
    codes = np.repeat(pd.factorize(ok["label"], sort=True)[0], 3)
    noise = np.random.default_rng(0).normal(0, 0.2, (len(keys), 8))
    outputs = {"features": (np.eye(8)[codes] + noise).astype(np.float32)}
    store.seal(path, header, outputs, keys)
    store.publish(path, header)


@pytest.fixture
def run_of_study(study: Path) -> runs.Run:
    """A run of the study, with its files."""
    found = manifest.load(Path("cache/xrays"))
    names = ["logreg", "majority"]
    one = ["densenet121"]
    result = train_head(found, Path("reports"), backbones=one, heads=names, jobs=1)
    return result.runs[0]


def test_every_command_is_documented() -> None:
    """Each command has a section in docs/commands.md, and no other has one."""
    found = re.findall(r"^## featcache (.+)$", read("docs/commands.md"), re.MULTILINE)
    assert sorted(found) == sorted(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_is_documented(command: str) -> None:
    """The table of a command lists each option, with all its spellings."""
    spelled = {(*o.opts, *o.secondary_opts) for o in options(command).values()}
    assert set(documented(command)) == spelled


@pytest.mark.parametrize("command", COMMANDS)
def test_documented_defaults_are_the_commands(command: str) -> None:
    """A default in code is click's; one in words stands for click's None."""
    given, cells = defaults(command), documented(command)
    for name, option in options(command).items():
        cell = cells[(*option.opts, *option.secondary_opts)]
        if option.required:
            expected = "required"
        elif given[name] in (None, ()):
            assert "`" not in cell, option.opts
            continue
        else:
            expected = f"`{spell(given[name])}`"
        assert cell == expected, option.opts


def spell(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, tuple):
        return ",".join(map(spell, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


@pytest.mark.parametrize("command", COMMANDS)
def test_command_and_library_have_equal_defaults(command: str) -> None:
    """An option's default is that of the library's argument of the same name."""
    given = defaults(command)
    known = set(AT_THE_DOOR)
    for function in BEHIND[command]:
        for name, argument in inspect.signature(function).parameters.items():
            known.add(name)
            default = getattr(argument.default, "kind", argument.default)  # a region
            if name in given and argument.default is not argument.empty:
                assert given[name] == default, (function, name)
    assert set(given) <= known


def test_backbones_and_heads_are_documented() -> None:
    """The tables of backbones and heads are those of the registries."""
    table = [
        [f"`{n}`", str(b.dim), f"{b.input_size} px", b.preprocess, f"`{b.file_name}`"]
        for n, b in NETWORKS.items()
    ]
    assert [r for r in rows(section("extract")) if r[0].strip("`") in NETWORKS] == table
    plain = [[f"`{name}`", str(BACKBONES[name].dim)] for name in BASELINES]
    found = [r[:2] for r in rows(section("extract")) if r[0].strip("`") in BASELINES]
    assert found == plain
    heads = [[f"`{name}`", row.about] for name, row in HEADS.items()]
    assert [r for r in rows(section("train-head")) if len(r) == 2][2:] == heads


def test_suffixes_are_documented() -> None:
    """The section of scan lists the suffixes of images."""
    assert set(re.findall(r"`(\.\w+)`", section("scan"))) == SUFFIXES


def test_metrics_are_documented() -> None:
    """The option --metric names every metric."""
    assert all(metric in section("compare") for metric in METRICS)


def test_exit_codes(run: Callable[..., tuple[int, str, str]]) -> None:
    """0 for done, 1 for a domain error in one line, 2 for usage, as documented."""
    assert run("--version")[0] == 0
    code, out, err = run("compare")
    assert (code, out, err.count("\n")) == (FeatcacheError.exit_code, "", 1)
    assert run("compare", "--no-such-option")[0] == 2
    found = [int(row[0]) for row in rows(read("docs/commands.md")) if row[0].isdigit()]
    assert found == [0, 1, 2, 130]


def lines_of_shell() -> Iterator[tuple[str, str]]:
    """Page and text of every featcache line."""
    for page in PAGES:
        name = page.relative_to(ROOT).as_posix()
        for block in blocks(name, "sh"):
            for line in block.replace("\\\n", " ").splitlines():
                if line.startswith("featcache "):
                    yield name, line


@pytest.mark.parametrize(("page", "line"), list(lines_of_shell()))
def test_documented_lines_parse(page: str, line: str) -> None:
    """Every featcache line of the documents is accepted by the command line."""
    words = shlex.split(line)[1:]
    known = (" ".join(words[:n]) for n in (1, 2))
    command = next(name for name in known if name in COMMANDS)
    COMMANDS[command].make_context(command, words[len(command.split()) :])


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_pages_name_only_commands_that_exist(page: Path) -> None:
    """Code in the text that begins with featcache goes on with a command."""
    named = re.findall(r"`featcache ([a-z][\w-]*)", page.read_text(encoding="utf-8"))
    assert set(named) <= set(cli.commands)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    """Every relative link is a file or folder, and its anchor a heading there."""
    for link in re.findall(r"\]\(([^)]+)\)", page.read_text(encoding="utf-8")):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        if anchor:
            heads = re.findall(r"^#+ (.*)$", target.read_text("utf-8"), re.MULTILINE)
            slugs = [re.sub(r"[^\w -]", "", h).lower().replace(" ", "-") for h in heads]
            assert anchor in slugs, link


@pytest.mark.parametrize(
    "page", ["README.md", "docs/quickstart.md", "docs/file-format.md"]
)
def test_python_of_the_documents_runs(page: str, run_of_study: runs.Run) -> None:
    """The Python blocks of a page run one after the other on the study."""
    names: dict[str, Any] = {}
    assert blocks(page, "python")
    for block in blocks(page, "python"):
        exec(compile(block, page, "exec"), names)


def test_a_foreign_store_is_a_store(run_of_study: runs.Run) -> None:
    """A store written with h5py as docs/file-format.md says is loaded as any other."""
    names: dict[str, Any] = {}
    for block in blocks("docs/file-format.md", "python"):
        exec(block, names)
    X, _, _, meta = featcache.load(names["path"])
    row = {image_id: i for i, image_id in enumerate(names["image_ids"])}
    assert np.array_equal(X, names["X"][meta["image_id"].map(row)])


def test_the_example_runs(
    study: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The example prints an out-of-fold accuracy that is well above chance."""
    path = str(next(study.glob("cache/xrays/features/densenet121*.h5")))
    monkeypatch.setattr(sys, "argv", ["plain_scikit_learn.py", path])
    runpy.run_path(str(ROOT / "examples/plain_scikit_learn.py"), run_name="__main__")
    out = capsys.readouterr().out
    assert out.startswith("36 images of 18 groups, 8 features")
    assert float(re.findall(r"accuracy (\d\.\d+), out-of-fold", out)[0]) > 0.6


def named_in(page: str, heading: str) -> set[str]:
    """Everything in code under a heading of a page, down to the next heading."""
    found = re.search(rf"^#+ {heading}\n(.*?)(?=^#|\Z)", read(page), re.DOTALL | re.M)
    assert found
    return set(re.findall(r"`([\w.]+)`", found[1]))


def test_the_manifest_is_as_documented(study: Path) -> None:
    """docs/file-format.md names all columns and all of dataset.json."""
    record = json.loads(Path("cache/xrays/dataset.json").read_text())
    named = named_in("docs/file-format.md", "Manifest")
    assert {*manifest.COLUMNS, *record, *record["settings"]} <= named


def test_the_store_is_as_documented(study: Path) -> None:
    """docs/file-format.md names all datasets with their types, and all attributes."""
    named = named_in("docs/file-format.md", "Feature store")
    with h5py.File(next(study.glob("cache/xrays/features/*.h5"))) as file:
        assert {*file, *file.attrs, *json.loads(file.attrs["contract"])} <= named
        types = {name: str(file[name].dtype) for name in file}
        assert file["features"].fletcher32
    assert types == {
        "features": "float32", "image_id": "|S64", "view": "uint16",
        "policy": "int16", "path": "object",
    }  # fmt: skip


def test_the_split_is_as_documented(run_of_study: runs.Run) -> None:
    """docs/file-format.md names all fields of a split."""
    path = next(Path("cache/xrays").glob("splits-*.json"))
    assert json.loads(path.read_text()).keys() <= named_in(
        "docs/file-format.md", "Splits"
    )


def test_the_run_is_as_documented(run_of_study: runs.Run) -> None:
    """docs/file-format.md names all files and fields of a run."""
    named = named_in("docs/file-format.md", "Runs")
    head = json.loads((run_of_study.folder / "head.json").read_text())
    files = {path.name for path in run_of_study.folder.iterdir()}
    record = run_of_study.record
    assert {*files, *head, *record, *record["split"], *record["head_is"]} <= named
    assert {c for c in run_of_study.table if not c.startswith("p_")} <= named


def test_the_leaderboard_is_as_documented(run_of_study: runs.Run) -> None:
    """docs/commands.md names every field of the leaderboard, in its order."""
    named = [
        name
        for row in rows(section("compare"))
        for name in re.findall(r"`([a-z_0-9]+)`", row[0])
    ]
    assert named == list(compare(Path("reports/xrays")).rows[0])
