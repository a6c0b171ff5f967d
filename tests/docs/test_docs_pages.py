"""Documents are executed: what they say of lines, links, files and fields is true."""

import json
import re
import runpy
import shlex
import shutil
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
from documents import COMMANDS, PAGES, ROOT, blocks, read, rows, section
from toys import picture

import featcache
from featcache import backbones
from featcache.backbones import Network
from featcache.cli import cli
from featcache.commands.compare import compare
from featcache.commands.scan import scan
from featcache.commands.train_head import train_head
from featcache.dataset import manifest, views
from featcache.evaluation import runs
from featcache.features import store
from featcache.features.contract import Contract


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The study of the documents: 36 X-rays of 18 patients, two stores, two runs."""
    folder = tmp_path_factory.mktemp("study")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        dataset = write_study()
        names = ["logreg", "majority"]
        train_head(
            dataset, Path("reports"), backbones=["densenet121"], heads=names, jobs=1
        )
    return folder


@pytest.fixture
def study(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the study, in the current folder."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    settings = tmp_path / "cache/xrays/dataset.json"
    settings.write_text(settings.read_text().replace(str(made), str(tmp_path)))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_study() -> manifest.Manifest:
    """Images, their table and embeddings, in the current folder."""
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
    return found


def write_store(
    network: Network, found: manifest.Manifest, path: Path | None = None
) -> None:
    """Publishes embeddings that nearly tell the class, with two views."""
    header = store.Header(
        replace(Contract.of(network), weights_digest="none"),
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
    (folder,) = study.glob("reports/xrays/runs/logreg-*")
    return runs.load(folder)


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
    by_name = COMMANDS | {"review": COMMANDS["review open"]}  # open may be left out
    known = (" ".join(words[:n]) for n in (2, 1))
    command = next(name for name in known if name in by_name)
    by_name[command].make_context(command, words[len(command.split()) :])


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


def test_pages_that_the_package_names_exist() -> None:
    """Every page that an error, a docstring or the report refers to is there."""
    files = [
        *(ROOT / "featcache").rglob("*.py"),
        *(ROOT / "featcache").rglob("*.jinja"),
    ]
    named = {
        (file.name, page)
        for file in files
        for page in re.findall(
            r"docs/[\w/-]+\.md(?! of Keras)", file.read_text(encoding="utf-8")
        )
    }
    assert len(named) > 20
    assert [one for one in sorted(named) if not (ROOT / one[1]).is_file()] == []


@pytest.mark.parametrize(
    "page",
    [
        "README.md",
        "docs/how-to/own-images.md",
        "docs/reference/file-format.md",
        "docs/reference/python.md",
    ],
)
def test_python_of_the_documents_runs(page: str, run_of_study: runs.Run) -> None:
    """The Python blocks of a page run one after the other on the study."""
    names: dict[str, Any] = {}
    assert blocks(page, "python")
    for block in blocks(page, "python"):
        exec(compile(block, page, "exec"), names)


def test_a_foreign_store_is_a_store(run_of_study: runs.Run) -> None:
    """A store written with h5py, as the page on files says, is loaded as any other."""
    names: dict[str, Any] = {}
    for block in blocks("docs/reference/file-format.md", "python"):
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
    """docs/reference/file-format.md names all columns and all of dataset.json."""
    record = json.loads(Path("cache/xrays/dataset.json").read_text())
    named = named_in("docs/reference/file-format.md", "Manifest")
    assert {*manifest.COLUMNS, *record, *record["settings"]} <= named


def test_the_store_is_as_documented(study: Path) -> None:
    """docs/reference/file-format.md names all datasets, types and attributes."""
    named = named_in("docs/reference/file-format.md", "Feature store")
    with h5py.File(next(study.glob("cache/xrays/features/*.h5"))) as file:
        assert {*file, *file.attrs, *json.loads(file.attrs["contract"])} <= named
        types = {name: str(file[name].dtype) for name in file}
        assert file["features"].fletcher32
    assert types == {
        "features": "float32", "image_id": "|S64", "view": "uint16",
        "policy": "int16", "path": "object",
    }  # fmt: skip


def test_the_split_is_as_documented(run_of_study: runs.Run) -> None:
    """docs/reference/file-format.md names all fields of a split."""
    path = next(Path("cache/xrays").glob("splits-*.json"))
    assert json.loads(path.read_text()).keys() <= named_in(
        "docs/reference/file-format.md", "Splits"
    )


def test_the_run_is_as_documented(run_of_study: runs.Run) -> None:
    """docs/reference/file-format.md names all files and fields of a run."""
    named = named_in("docs/reference/file-format.md", "Runs")
    head = json.loads((run_of_study.folder / "head.json").read_text())
    files = {path.name for path in run_of_study.folder.iterdir()}
    record = run_of_study.record.to_json()
    assert {*files, *head, *record, *record["split"], *record["head_is"]} <= named
    assert {c for c in run_of_study.table if not c.startswith("p_")} <= named


def test_the_leaderboard_is_as_documented(run_of_study: runs.Run) -> None:
    """The page of compare names every field of the leaderboard, in its order."""
    named = [
        name
        for row in rows(section("compare"))
        for name in re.findall(r"`([a-z_0-9]+)`", row[0])
    ]
    assert named == list(compare(Path("reports/xrays")).rows[0].to_json())
