"""The keys of a study file: each arrives where it is meant to."""

import json
from pathlib import Path
from typing import Any

import pytest
from toy_study import TEXT

from featcache import study
from featcache.core.options import parameters
from featcache.dataset.regions import Region
from featcache.errors import UsageError
from featcache.study.keys import REQUIRED, SECTIONS, in_words


@pytest.mark.parametrize("name", SECTIONS)
def test_no_argument_is_forgotten(name: str) -> None:
    """Each argument of a section's functions is a key, or given by the study itself."""
    section = SECTIONS[name]
    arguments = {a for f in section.functions for a in parameters(f)}
    assert section.fixed <= arguments, "what is given has to be an argument"
    assert set(section.renamed) <= arguments
    for function in section.functions:
        asked = {key: key for key in section.keys}
        passed = section.arguments(function, asked)
        assert {*passed} | section.fixed >= {*parameters(function)}
    for key in section.keys.values():
        assert key.default is REQUIRED or key.default is None or in_words(key.hint)


# A value other than the default for each key that goes on to a function.
VALUES: dict[str, dict[str, Any]] = {
    "extract": {
        "weights": "random", "preprocess": "none", "seed": 3, "views": 2,
        "taps": ["a", "b"], "tap_pooling": "avg+max", "pooling": "grid2",
        "engine": "openvino", "precision": "int8", "dtype": "float16",
        "batch_size": 4, "max_bad": 0.5,
        "flip": False, "brightness": [1, 2], "zoom": [1, 3], "input_size": 40,
        "region": "outside", "mask": "lungs", "split_by": "none",
    },
    "train": {
        "heads": ["svm"], "views": 1, "tta": False, "tune": True, "transform": "sqrt",
        "pca": 7, "calibrate": False, "exclude": ["label=NORMAL"], "group_by": "image",
        "folds": 4, "test_size": 0.3, "repeats": 2, "seed": 5, "split": "mine",
        "taps": ["a"], "split_by": "none", "test_where": "label=NORMAL",
        "val_part": "fold",
    },
    "report": {"metric": "auc"},
    "ensemble": {"weights": "equal", "calibrate": False},
    "dataset": {
        "name": "x", "group_by": "label", "per_class": 2, "on_conflict": "drop",
        "split_by": "none", "pool": False,
    },
}  # fmt: skip
# Keys that are no argument, or name what only a run can tell.
ELSEWHERE = {
    "name", "label", "backbones", "from", "members", "html", "formats", "against",
    "source",
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
        "pooling",
        "engine",
        "precision",
        "dtype",
        "batch_size",
        "max_bad",
        "split_by",
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
        "split_by": "none", "pool": False,
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
