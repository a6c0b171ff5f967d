"""Study files: their page knows every key, and those of the repository are valid."""

import json
import re
import shutil
import zipfile
from pathlib import Path
from typing import Any

import pytest

from featcache import study
from featcache.backbones import CLASSIC5
from featcache.study.keys import REQUIRED, SECTIONS, TOP, in_words

ROOT = Path(__file__).parents[2]


def cells(section: str) -> dict[str, list[str]]:
    """Key to type and default as docs/reference/study.md has them under a heading."""
    text = (ROOT / "docs/reference/study.md").read_text(encoding="utf-8")
    found = re.search(rf"^## {section}\n(.*?)(?=^## |\Z)", text, re.DOTALL | re.M)
    assert found
    rows = re.findall(r"^\| `(\w+)` \| ([^|]+) \| ([^|]+) \|", found[1], re.MULTILINE)
    return {key: [kind, default] for key, kind, default in rows}


@pytest.mark.parametrize("name", SECTIONS)
def test_keys_are_documented(name: str) -> None:
    """docs/reference/study.md has every key with its type and default, and no other."""
    if name == "evaluation":
        found = {*SECTIONS["train"].keys} - {
            "name",
            "label",
            "from",
            "backbones",
            "heads",
        }
        assert {*SECTIONS[name].keys} == found
        assert cells(name) == {}
        return
    known = SECTIONS[name].keys
    found = cells(name[0].upper() + name[1:] if name == TOP else name)
    assert list(found) == list(known)
    for key, (kind, default) in found.items():
        assert kind == in_words(known[key].hint), key
        if known[key].default is None:
            assert "`" not in default, key
        else:
            assert default == spelled(known[key].default), key


def spelled(default: Any) -> str:
    if default is REQUIRED:
        return "required"
    if isinstance(default, str):
        return f"`{default}`"
    if isinstance(default, tuple):
        whole = [int(v) if isinstance(v, float) and v == int(v) else v for v in default]
        return f"`{json.dumps(whole)}`"
    return f"`{json.dumps(default)}`"


def test_the_example_of_the_documents(file: Path) -> None:
    """The first study of docs/reference/study.md is one."""
    text = (ROOT / "docs/reference/study.md").read_text(encoding="utf-8")
    example = re.findall(r"^```toml\n(.*?)^```", text, re.DOTALL | re.MULTILINE)[0]
    sheet = file.parent / "xrays" / "metadata.csv"
    shutil.copytree(file.parent / "chest", sheet.parent)
    rows = [
        f"{p.relative_to(sheet.parent)},{p.parent.name},{p.stem}"
        for p in sheet.parent.rglob("*.png")
    ]
    sheet.write_text("\n".join(["path,label,patient", *rows]))
    file.write_text(example)
    assert [n.name for n in study.read(file).extracts[0].networks] == [
        "densenet121",
        "resnet50",
    ]


@pytest.mark.parametrize(
    "path", sorted(ROOT.glob("studies/*.toml")), ids=lambda p: p.name
)
def test_the_studies_are_valid(
    path: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every study of the repository is accepted where its data is at hand."""
    sheet = file.parent / "data" / "darkcovid" / "metadata.csv"
    weights = file.parent / "weights"
    sheet.parent.mkdir(parents=True)
    weights.mkdir()
    (sheet.parent / "1.png").touch()
    (sheet.parent / "2.png").touch()
    sheet.write_text("path,label,patient,disputed\n1.png,A,P1,0\n2.png,B,P2,1\n")
    for name in ("squeezenet1_1", "efficientnet_lite0", "efficientnet_lite2"):
        network = weights / f"{name}_imagenet.keras"
        with zipfile.ZipFile(network, "w") as archive:
            archive.writestr("config.json", "{}")
        if name != "squeezenet1_1":
            about = {"preprocess": "none", "input_size": 224, "taps": ["inner"]}
            network.with_suffix(".json").write_text(json.dumps(about))
    monkeypatch.setenv("FEATCACHE_REAL_DATA", str(file.parent))
    monkeypatch.setenv("COVID_RADIOGRAPHY", str(file.parent / "chest"))
    asked = study.read(path)
    assert asked.name == path.stem
    assert study.steps(asked)


def test_granada_is_the_study(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Versions 0 to 3 for the five backbones, 1200 images a class, 80/20."""
    monkeypatch.setenv("COVID_RADIOGRAPHY", str(file.parent / "chest"))
    asked = study.read(ROOT / "studies/granada.toml")
    assert asked.dataset["per_class"] == 1200
    found = {}
    for train in asked.trains:
        networks = [source.network for (source,) in train.sets]
        (preprocess,) = {network.preprocess for network in networks}
        views = {e.name: e.views for e in asked.extracts}[train.sets[0][0].extract]
        found[train.name] = (train.settings["heads"], preprocess, views > 0)
        assert train.settings["test_size"] == 0.2
        if train.name != "baselines":
            assert [n.name for n in networks] == list(CLASSIC5)
            assert {n.input_size for n in networks} == {224}
            assert {n.weights for n in networks} == {"imagenet"}
    (tuned,) = asked.finetunes
    assert [n.name for n in tuned.networks] == list(CLASSIC5)
    assert {(n.input_size, n.weights) for n in tuned.networks} == {(224, "imagenet")}
    assert (tuned.name, tuned.settings["fold"]) == ("version 3", "test")
    assert (tuned.settings["optimizer"], tuned.init_head) == ("sgd", None)
    assert found.pop("baselines")[0] == ["logreg", "majority"]
    assert found == {
        "version 0": (["softmax-untrained"], "none", False),
        "version 1": (["softmax"], "none", False),
        "version 2": (["mlp"], "featurewise", True),
        "version 2b": (["mlp-dropout"], "featurewise", True),
    }
