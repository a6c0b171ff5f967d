"""Study files: one file says it all, wrong ones are refused with line and key."""

import inspect
import json
import re
import shutil
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from featcache import study
from featcache.backbones import STUDY
from featcache.compare import Leaderboard
from featcache.errors import DatasetError, UsageError, WeightsError
from featcache.manifest import Manifest
from featcache.regions import Region
from featcache.study import keys, running
from featcache.study.keys import REQUIRED, SECTIONS, TOP, fits, in_words
from featcache.study.lines import lines_of
from featcache.views import Policy

ROOT = Path(__file__).parents[1]
TEXT = r"""name = "toy"
seed = 1

[dataset]
source = "chest"
group_by = '(p\d{3})_'

[[extract]]
name = "sizes"
backbones = ["${NET}"]
input_size = [32, 48]
engine = "tensorflow"
views = 1

[[extract]]
name = "trivial"
backbones = ["metadata"]

[evaluation]
folds = 3
tune = false

[[train]]
name = "each size"
from = "sizes"
heads = ["logreg", "majority"]

[[train]]
name = "both sizes"
backbones = [
  "metadata",
  "toynet@32+toynet@48",
]
heads = ["logreg"]
views = 0

[[ensemble]]
name = "mean"
members = ["each size/logreg", "both sizes"]

[report]
formats = ["markdown"]
html = true
"""


@pytest.fixture
def file(
    image_folder: Path, toy_network: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """The study beside its images; $NET is the toy network."""
    monkeypatch.setenv("NET", str(toy_network))
    path = image_folder.parent / "toy.toml"
    path.write_text(TEXT)
    return path


def test_lines() -> None:
    """Each key has the line on which it begins, in arrays and texts of lines too."""
    text = '''# comment
[[a]]
x = """
[no.section]
y = 1
"""
[[a]]
b.c = [ # begins here
  1,
  { d = 2, e = [
    3] },
]
'''
    found = lines_of(text)
    assert found["a", 0, "x"] == 3
    assert found["a", 1] == 7
    assert found["a", 1, "b", "c"] == 8
    assert found["a", 1, "b", "c", 0] == 9
    assert found["a", 1, "b", "c", 1, "d"] == 10
    assert found["a", 1, "b", "c", 1, "e", 0] == 11
    assert ("no", "section") not in found


@pytest.mark.parametrize(
    ("hint", "good", "bad"),
    [
        (str, ["a"], [1, ["a"]]),
        (int, [1], [True, 1.5, "1"]),
        (float, [1, 0.5], [False, "0.5"]),
        (bool | None, [True], [1, "true"]),
        (int | str, [1, "all"], [True, 1.5]),
        (tuple[float, float], [[0.8, 1]], [[1], [1, 2, 3], "1,2", ["a", "b"]]),
        (keys.Names, [[], ["a"]], ["a", [1]]),
        (Path, ["a"], [1]),
    ],
)
def test_types(hint: Any, good: list[Any], bad: list[Any]) -> None:
    """A value of TOML fits a signature's type or does not; each type has words."""
    assert [value for value in good if not fits(value, hint)] == []
    assert [value for value in bad if fits(value, hint)] == []
    assert in_words(hint)


# A line of the study, what stands there instead, and words of the error.
WRONG = [
    ("seed = 1", "sead = 1", "Did you mean seed?"),
    ('name = "toy"', 'name = "a/b"', "a plain name"),
    ("[evaluation]", "[evaluaton]", "Did you mean evaluation?"),
    ('name = "sizes"', 'nane = "sizes"', "Did you mean name"),
    ("folds = 3", "fold = 3", "Did you mean folds?"),
    ("folds = 3", 'folds = "three"', "a whole number for folds"),
    ("folds = 3", "folds = true", "a whole number for folds"),
    ("folds = 3", "folds = 1", "folds of 2 or more"),
    ("folds = 3", "folds = ", "at line 20, column"),
    ("folds = 3", 'group_by = "patients"', "got 'patients'"),
    ("folds = 3", 'exclude = ["lable=x"]', "Did you mean label?"),
    ("folds = 3", 'transform = "square"', "square"),
    ("folds = 3", "test_size = 1.5", "test_size of 0-0.9"),
    ("[report]", "[[report]]", "got [[report]]. Write [report]"),
    ('name = "trivial"', 'name = "sizes"', "another name"),
    ('backbones = ["metadata"]', 'backbones = ["metadat"]', "Did you mean metadata?"),
    ('backbones = ["metadata"]', 'backbones = ["no.keras"]', "no such file"),
    ('backbones = ["metadata"]', "seed = 0", "a key backbones in [[extract]] 2"),
    ('backbones = ["${NET}"]', 'backbones = ["${NONET}"]', "variable NONET"),
    ('engine = "tensorflow"', 'engine = "tensorflaw"', "Did you mean tensorflow?"),
    ('engine = "tensorflow"', 'preprocess = "coffee"', "Did you mean caffe?"),
    ('engine = "tensorflow"', 'weights = "no.h5"', "no such file"),
    ('engine = "tensorflow"', 'region = "insade"', "Did you mean inside?"),
    ('engine = "tensorflow"', "brightness = [1.2, 0.8]", "LO <= HI"),
    ('engine = "tensorflow"', 'taps = "default"', "default for toynet"),
    ("input_size = [32, 48]", "input_size = [32, 8]", "input_size of 32 or more"),
    ('source = "chest"', 'source = "chests"', "no such path"),
    (r"group_by = '(p\d{3})_'", "group_by = 'p[0-'", "expression with one group"),
    ('from = "sizes"', 'from = "size"', "Did you mean sizes?"),
    ('from = "sizes"', 'backbones = ["toynet@64"]', "Did you mean toynet@"),
    ('from = "sizes"', 'backbones = ["toynet+metadata"]', "one backbone for toynet"),
    ('from = "sizes"', 'taps = "all"', "tap of [[extract]]"),
    ('from = "sizes"', "views = 2", "at most the "),
    ('from = "sizes"', 'views = "some"', "a number of views"),
    ('heads = ["logreg"]', 'heads = ["logrek"]', "Did you mean logreg?"),
    ('heads = ["logreg"]', 'haeds = ["logreg"]', "Did you mean heads"),
    ('heads = ["logreg"]', 'heads = "logreg"', "a list of texts for heads"),
    ('name = "mean"', 'name = "both sizes"', "another name"),
    ('name = "mean"', 'weights = "equally"', "Did you mean equal?"),
    ('formats = ["markdown"]', 'formats = ["markdwon"]', "Did you mean markdown?"),
    ('formats = ["markdown"]', 'against = "each size/svm"', "head of each size"),
]


@pytest.mark.parametrize(("line", "wrong", "words"), WRONG)
def test_a_wrong_line_is_named(file: Path, line: str, wrong: str, words: str) -> None:
    """Whatever is wrong is refused at once, with its line, its key and a way out."""
    number = TEXT.split("\n").index(line) + 1
    file.write_text(TEXT.replace(f"{line}\n", f"{wrong}\n", 1))
    with pytest.raises(UsageError) as error:
        study.read(file)
    assert words in str(error.value)
    if "a key" in words:  # what is not there has no line; its section has
        number -= 2
    assert re.search(rf"\bline {number}\b", str(error.value))
    if "at line" not in words and "a key" not in words:
        assert wrong.strip("[]").split(" =")[0] in str(error.value)


def test_a_single_table_is_no_list(file: Path) -> None:
    """[extract] instead of [[extract]] is refused, and so is what is no table."""
    for wrong in ("[extract]\nbackbones = []", 'extract = "all"'):
        file.write_text(f"name = 'x'\n{wrong}\n")
        with pytest.raises(
            UsageError, match=r"line 2, extract\).*\[\[extract\]\] above"
        ):
            study.read(file)


def test_what_is_needed(file: Path, tmp_path: Path) -> None:
    """A file without a section that is needed, or without a file, is refused."""
    file.write_text("seed = 1\n[dataset]\nsource = 'chest'\n")
    with pytest.raises(UsageError, match="a section extract"):
        study.read(file)
    with pytest.raises(UsageError, match="a study file in"):
        study.read(tmp_path / "no.toml")
    file.write_bytes(b"name = '\xff'")
    with pytest.raises(UsageError, match="TOML in"):
        study.read(file)


@pytest.mark.parametrize("name", SECTIONS)
def test_no_argument_is_forgotten(name: str) -> None:
    """Each argument of a section's functions is a key, or given by the study itself."""
    section = SECTIONS[name]
    arguments = {a for f in section.functions for a in inspect.signature(f).parameters}
    assert section.given <= arguments, "what is given has to be an argument"
    assert set(section.renamed) <= arguments
    for function in section.functions:
        asked = {key: key for key in section.keys}
        passed = section.arguments(function, asked)
        assert {*passed} | section.given >= {*inspect.signature(function).parameters}
    for key in section.keys.values():
        assert key.default is REQUIRED or key.default is None or in_words(key.hint)


# A value other than the default for each key that goes on to a function.
VALUES: dict[str, dict[str, Any]] = {
    "extract": {
        "weights": "random", "preprocess": "none", "seed": 3, "views": 2,
        "taps": ["a", "b"], "tap_pooling": "avg+max", "engine": "openvino",
        "precision": "int8", "dtype": "float16", "batch_size": 4, "max_bad": 0.5,
        "flip": False, "brightness": [1, 2], "zoom": [1, 3], "input_size": 40,
        "region": "outside", "mask": "lungs",
    },
    "train": {
        "heads": ["svm"], "views": 1, "tta": False, "tune": True, "transform": "sqrt",
        "pca": 7, "calibrate": False, "exclude": ["label=NORMAL"], "group_by": "image",
        "folds": 4, "test_size": 0.3, "repeats": 2, "seed": 5, "split": "mine",
        "taps": ["a"],
    },
    "report": {"metric": "auc"},
    "ensemble": {"weights": "equal", "calibrate": False},
    "dataset": {
        "name": "x", "group_by": "label", "per_class": 2, "on_conflict": "drop",
    },
}  # fmt: skip
# Keys that are no argument, or name what only a run can tell.
ELSEWHERE = {
    "name", "backbones", "from", "members", "html", "formats", "against", "source",
}  # fmt: skip


def toml(section: str, values: dict[str, Any]) -> str:
    """A section of a file; numbers, texts and lists are written as in JSON."""
    lines = [f"{key} = {json.dumps(value)}" for key, value in values.items()]
    spelled = f"[[{section}]]" if SECTIONS[section].many else f"[{section}]"
    return "\n".join([spelled, *lines, ""])


def test_every_key_arrives(file: Path) -> None:
    """What a file says of each key is what the function behind it is called with."""
    for name, values in VALUES.items():
        assert {*values} | ELSEWHERE >= {*SECTIONS[name].keys}, name
    extra = {
        "dataset": {"source": "chest"},
        "extract": {"backbones": ["densenet121"]},
        "ensemble": {"members": ["train 1"]},
    }
    file.write_text("\n".join(toml(k, v | extra.get(k, {})) for k, v in VALUES.items()))
    asked = study.read(file)
    given, (extract,) = VALUES["extract"], asked.extracts
    (network,) = extract.networks
    policy: dict[str, Any] = {"flip": False, "brightness": (1, 2), "zoom": (1, 3)}
    policy |= {"seed": 3, "region": Region("outside", "lungs")}
    assert vars(extract.policy) == policy
    assert (network.weights, network.preprocess) == ("random", "none")
    assert (network.input_size, network.seed) == (40, 3)
    named = {
        "views",
        "tap_pooling",
        "engine",
        "precision",
        "dtype",
        "batch_size",
        "max_bad",
    }
    assert extract.settings == {k: given[k] for k in named} | {"taps": "a,b"}
    assert asked.trains[0].settings == VALUES["train"]
    assert asked.ensembles[0].settings == VALUES["ensemble"]
    assert asked.report == VALUES["report"]
    named = VALUES["dataset"] | {"dataset": "x", "source": file.parent / "chest"}
    assert asked.dataset == {k: v for k, v in named.items() if k != "name"}


def test_what_a_block_leaves_out(file: Path) -> None:
    """[evaluation] and the top's seed hold where a block says nothing."""
    file.write_text(TEXT.replace('name = "each size"', 'name = "each size"\nfolds = 4'))
    first, second = study.read(file).trains
    assert (first.settings["folds"], second.settings["folds"]) == (4, 3)
    assert first.settings["tune"] is second.settings["tune"] is False
    assert first.settings["seed"] == study.read(file).extracts[0].policy.seed == 1
    assert study.read(file, seed=9).trains[0].settings["seed"] == 9


def test_nothing_is_left_to_earlier_scans(file: Path) -> None:
    """Options of a scan that the file leaves out are spelled out as their defaults."""
    file.write_text(TEXT.replace(r"group_by = '(p\d{3})_'", ""))
    dataset = study.read(file).dataset
    assert dataset.pop("source") == file.parent / "chest"
    assert dataset == {
        "group_by": "near-duplicate", "per_class": 0, "on_conflict": "error",
    }  # fmt: skip


def test_feature_sets(file: Path) -> None:
    """A name takes every size, a size one, + puts them together, all takes all."""
    text = TEXT.replace("views = 0", "").split("[[ensemble]]")[0]
    named = '["toynet", "toynet@32+metadata", "baselines", "all"]'
    file.write_text(
        text.replace('heads = ["logreg"]', f"backbones = {named}", 1).replace(
            'backbones = [\n  "metadata",\n  "toynet@32+toynet@48",\n]', ""
        )
    )
    sets = study.read(file).trains[1].sets
    assert ["+".join(source.label for source in chosen) for chosen in sets] == [
        "toynet@32", "toynet@48", "toynet@32+metadata", "metadata",
    ]  # fmt: skip


def test_taps_of_an_extract(file: Path) -> None:
    """A [[train]] may ask for the taps that are kept, in the order of the layers."""
    kept = 'taps = ["a", "b"]\ntap_pooling = "avg+max"'
    file.write_text(TEXT.replace('engine = "tensorflow"', kept, 1))
    (extract, trivial) = study.read(file).extracts
    assert extract.taps(extract.networks[0]) == ["a", "a:max", "b", "b:max"]
    assert trivial.taps(trivial.networks[0]) == []
    text = TEXT.replace('engine = "tensorflow"', kept, 1)
    file.write_text(text.replace('from = "sizes"', 'taps = ["a:max", "c"]'))
    with pytest.raises(UsageError, match=r"line 26, taps of .*got 'c'"):
        study.read(file)


@pytest.mark.parametrize("line", ["folds = 3", "test_size = 0.1", "seed = 7"])
def test_statistics_need_the_default_split(file: Path, line: str) -> None:
    """Features standardised on one split's training part are trained on no other."""
    text = TEXT.replace("folds = 3\n", "").replace(
        "input_size", 'preprocess = "featurewise"\ninput_size'
    )
    file.write_text(text)
    assert study.read(file).trains
    file.write_text(text.replace("[evaluation]", f"[evaluation]\n{line}"))
    with pytest.raises(
        UsageError, match=rf"line 21, {line.split()[0]} of \[evaluation\]"
    ):
        study.read(file)


def cells(section: str) -> dict[str, list[str]]:
    """Key to type and default as docs/study.md has them under a heading."""
    text = (ROOT / "docs/study.md").read_text(encoding="utf-8")
    found = re.search(rf"^## {section}\n(.*?)(?=^## |\Z)", text, re.DOTALL | re.M)
    assert found
    rows = re.findall(r"^\| `(\w+)` \| ([^|]+) \| ([^|]+) \|", found[1], re.MULTILINE)
    return {key: [kind, default] for key, kind, default in rows}


@pytest.mark.parametrize("name", SECTIONS)
def test_keys_are_documented(name: str) -> None:
    """docs/study.md has every key with its type and default, and no other."""
    if name == "evaluation":
        found = {*SECTIONS["train"].keys} - {"name", "from", "backbones", "heads"}
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
    """The first study of docs/study.md is one."""
    text = (ROOT / "docs/study.md").read_text(encoding="utf-8")
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
    weights = file.parent / "weights" / "squeezenet1_1_imagenet.keras"
    sheet.parent.mkdir(parents=True)
    weights.parent.mkdir()
    (sheet.parent / "1.png").touch()
    (sheet.parent / "2.png").touch()
    sheet.write_text("path,label,patient,disputed\n1.png,A,P1,0\n2.png,B,P2,1\n")
    with zipfile.ZipFile(weights, "w") as archive:
        archive.writestr("config.json", "{}")
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
            assert [n.name for n in networks] == list(STUDY)
            assert {n.input_size for n in networks} == {224}
            assert {n.weights for n in networks} == {"imagenet"}
    (tuned,) = asked.finetunes
    assert [n.name for n in tuned.networks] == list(STUDY)
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


def test_dry_run(file: Path, run: Callable[..., tuple[int, str, str]]) -> None:
    """--dry-run shows each step and does none."""
    before = sorted(file.parent.rglob("*"))
    code, out, err = run("run", file, "--dry-run")
    assert (code, err) == (0, "")
    names = ["scan", "extract", "extract", "train", "train", "ensemble", "compare"]
    assert [line.split()[0] for line in out.splitlines()] == names
    assert "toynet@32+toynet@48" in out
    code, out, _ = run("run", file, "--dry-run", "--json")
    assert [step["step"] for step in json.loads(out)] == names
    assert sorted(file.parent.rglob("*")) == before


def test_a_wrong_file_costs_nothing(
    file: Path, run: Callable[..., tuple[int, str, str]]
) -> None:
    """An error in the last block is told, in one line, before the first is begun."""
    file.write_text(TEXT.replace("formats", "format"))
    before = sorted(file.parent.rglob("*"))
    code, out, err = run("run", file)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "toy.toml, line 42, format of [report]" in err
    assert sorted(file.parent.rglob("*")) == before


def stamps(folder: Path, *names: str) -> dict[str, int]:
    """When each file of these names was written; by default each store and run."""
    kept = [p for name in names or ("*.h5", "run.json") for p in folder.rglob(name)]
    return {str(path): path.stat().st_mtime_ns for path in kept}


def figures(board: Leaderboard) -> list[dict[str, Any]]:
    """A leaderboard without what differs from call to call."""
    return [
        {k: v for k, v in row.items() if not k.endswith("_seconds")}
        for row in board.rows
    ]


@pytest.mark.slow
def test_a_study(file: Path, run: Callable[..., tuple[int, str, str]]) -> None:
    """It goes from images to leaderboard and reports; a second time nothing is done."""
    code, out, err = run("run", file, "--jobs", "1")
    assert code == 0, err
    # 36 images in two sizes and two views, and once without a network.
    assert "180 embeddings computed, 7 runs made" in out
    home = file.parent / "reports" / "chest"
    ids = {path.parent.name for path in home.glob("runs/*/run.json")}
    heads = sorted(name.split("-")[0] for name in ids)
    assert heads == ["ensemble", *["logreg"] * 4, *["majority"] * 2]
    assert all(name in (home / "toy.md").read_text() for name in ("logreg", "ensemble"))
    assert "<html" in (home / "toy.html").read_text()
    for step in ("scan", "extract sizes", "train both sizes", "ensemble mean"):
        assert f"- {step}" in err
    before = stamps(file.parent) | stamps(home, "toy.html")
    code, again, _ = run("run", file, "--jobs", "1", "--json")
    record = json.loads(again)
    assert (code, record["computed"], record["trained"]) == (0, 0, [])
    assert {row["run_id"] for row in record["boards"][0]["rows"]} == ids
    assert {name for names in record["runs"].values() for name in names} == ids
    assert stamps(file.parent) | stamps(home, "toy.html") == before
    file.write_text(TEXT + 'metric = "auc"\n')
    assert run("run", file, "--jobs", "1")[0] == 0
    assert stamps(home, "toy.html").items().isdisjoint(before.items())


@pytest.mark.slow
def test_other_stores_change_nothing(
    file: Path, dataset: Manifest, toy: Callable[..., Any], tmp_path: Path
) -> None:
    """A study trains on its own views and stores, whatever else the cache has."""
    toy(dataset, views=3, policy=Policy(seed=5))
    result = study.run(
        study.read(file), tmp_path / "cache", reports=tmp_path / "r", jobs=1
    )
    assert result.failures == []
    runs = [run for found in result.runs.values() for run in found]
    assert {run.record["views"] for run in runs} == {0, 1}
    assert {(run.record["policy"] or {}).get("seed", 1) for run in runs} == {1}


REGIONS = r"""
[dataset]
source = "chest"
group_by = '(p\d{3})_'

[[extract]]
name = "all"
backbones = ["${NET}"]
engine = "tensorflow"

[[extract]]
name = "rim"
backbones = ["${NET}"]
engine = "tensorflow"
region = "ring"

[[train]]
name = "both"
heads = ["logreg"]
tune = false
folds = 2
"""


@pytest.mark.slow
def test_a_train_sees_the_region_of_its_extract(file: Path, tmp_path: Path) -> None:
    """The same backbone shown all and a ring is two feature sets, and two runs."""
    file.write_text(REGIONS)
    done = study.run(
        study.read(file), tmp_path / "cache", reports=tmp_path / "r", jobs=1
    )
    assert done.failures == []
    shown = [run.record["features"][0].get("region") for run in done.runs["both"]]
    assert sorted(map(str, shown)) == ["None", "ring"]
    other = 'region = "ring"\ninput_size = 48'
    sets = 'backbones = ["toynet@32+toynet@48"]\nheads = ["logreg"]'
    file.write_text(
        REGIONS.replace('region = "ring"', other).replace('heads = ["logreg"]', sets)
    )
    with pytest.raises(
        UsageError, match=r"one region for a set.*whole in all, ring in"
    ):
        study.read(file)


_KILLED = """
import os, signal, sys
from pathlib import Path
from featcache import study

def progress(name, done, total):
    if name == sys.argv[2] and done >= int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)

path = Path(sys.argv[1])
study.run(study.read(path), path.parent / "cache", jobs=1, progress=progress)
"""


@pytest.mark.slow
def test_killed_and_run_again(file: Path, tmp_path: Path) -> None:
    """A study killed twice on its way and run again ends like one that was not."""
    asked = study.read(file)
    whole = study.run(asked, tmp_path / "one", reports=tmp_path / "r1", jobs=1)
    for what, done in [("toynet", 40), ("fits", 5)]:
        killed = subprocess.run(
            [sys.executable, "-c", _KILLED, str(file), what, str(done)],
            cwd=tmp_path,
            capture_output=True,
            check=False,
        )
        assert killed.returncode == -signal.SIGKILL, killed.stderr
    again = study.run(asked, tmp_path / "cache", reports=tmp_path / "reports", jobs=1)
    assert again.failures == []
    assert figures(again.boards[0]) == figures(whole.boards[0])
    for path in tmp_path.glob("r1/chest/runs/*/predictions.csv"):
        other = tmp_path / "reports" / path.relative_to(tmp_path / "r1")
        assert path.read_bytes() == other.read_bytes()


@pytest.mark.slow
def test_failures_stop_nothing_else(
    file: Path,
    run: Callable[..., tuple[int, str, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Weights that cannot be had, and what needs them, are told; the rest is done."""

    def none(row: object) -> Path:
        raise WeightsError("weights", "no connection", "Get them.")

    monkeypatch.setattr(running, "fetch_weights", none)
    text = TEXT.replace('backbones = ["${NET}"]', 'backbones = ["${NET}", "vgg19"]')
    file.write_text(
        text.replace("[32, 48]", "32").replace("toynet@32+toynet@48", "vgg19")
    )
    code, out, err = run("run", file, "--jobs", "1")
    assert code == 1
    assert "no connection" in err.split("- scan")[0]
    assert "each size: there are no features of vgg19@32" in err
    assert "both sizes: there are no features of vgg19@32" in err
    last = err.splitlines()[-1]
    assert last.startswith("Error: expected all of")
    assert "3 failures" in last
    assert all(name in out for name in ("logreg", "majority", "metadata", "ensemble"))


@pytest.mark.slow
def test_a_wrong_value_is_told_before_the_long_work(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What only the images can tell is looked at right after the scan."""
    monkeypatch.setattr(running, "extract", lambda *a, **k: pytest.fail("extracted"))
    file.write_text(TEXT.replace("folds = 3", 'exclude = ["label=None"]'))
    with pytest.raises(DatasetError, match="label is None"):
        study.run(study.read(file), tmp_path / "cache")
