"""The commands of a run in the report: they say what its record says."""

import re
import shlex
from collections.abc import Callable
from html import unescape
from inspect import signature
from pathlib import Path
from typing import Any

import pytest
from records import make_record
from report_pages import parsed

from featcache.commands.finetune import finetune
from featcache.commands.finetune.settings import FinetuneSettings
from featcache.dataset.views import Policy
from featcache.features.extractions import (
    ExtractArguments,
    ExtractedNetwork,
    Extraction,
)
from featcache.report.html.reproduce import Known, commands

DEFAULTS = {name: one.default for name, one in signature(finetune).parameters.items()}
PLAIN: dict[str, Any] = {
    "backbone": "densenet121", "weights": "imagenet", "input_size": 224,
    "store": "one.h5", "seed": 3,
    "split": {"name": "own", "folds": 4, "test_size": 0.1, "seed": 3},
}  # fmt: skip
POLICY = {"flip": False, "brightness": [0.9, 1.1], "zoom": [1.0, 1.3], "seed": 7}
BLOCK = {"backbone": "vgg19", "weights": "random", "input_size": 320, "store": "b.h5"}
RECORDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "views": {"views": 2, "policy": POLICY, "tta": False},
    "taps": {
        "taps": ["pool1", "pool2:max"],
        "features": [{}, {"tap": "pool1"}, {"tap": "pool2:max"}],
    },
    "tuned": {
        "head_is": {
            "params": {"tune": False}, "embedding": {"transform": "sqrt", "pca": 50},
        },
    },
    "narrowed": {"exclude": ["disputed", "view=AP"], "calibration": {"kept": True}},
    "baseline": {"backbone": "metadata", "weights": "none"},
    "region": {"features": [{"region": "outside", "mask": "lungs"}]},
    "joined": {
        "backbone": "densenet121@224+vgg19@320",
        "features": [
            {"backbone": "densenet121"}, BLOCK, BLOCK | {"tap": "block1_pool"}
        ],
    },
}  # fmt: skip


@pytest.mark.parametrize("kind", RECORDS)
def test_commands_say_what_the_record_says(kind: str) -> None:
    """The command line takes each line, and its values are those of the record."""
    record = make_record(**PLAIN | RECORDS[kind])
    *extracts, (name, train) = map(parsed, commands(record, Known(), repeats=2))
    assert name == "train-head"
    embedding = record.head_is.embedding
    params = record.head_is.params | (vars(embedding) if embedding else {})
    named = ("backbones", "heads", "views", "repeats", "folds")
    assert {k: train[k] for k in named} == {
        "backbones": ("one+b" if kind == "joined" else "one",), "heads": ("logreg",),
        "repeats": 2, "views": record.views, "folds": 4,
    }  # fmt: skip
    assert (train["seed"], train["test_size"], train["split"]) == (3, 0.1, "own")
    assert train["taps"] == (",".join(record.taps) or "none")
    assert train["exclude"] == tuple(record.exclude)
    assert train["calibrate"] is bool(record.calibration)
    assert train["tta"] is (False if record.views else None)
    assert (train["tune"], train["transform"], train["pca"]) == (
        params.get("tune"), params.get("transform", "none"),
        str(params.get("pca", "none")),
    )  # fmt: skip
    stores = {block.store for block in record.features}
    assert [name for name, _ in extracts] == ["extract"] * len(stores)
    first = extracts[0][1]
    assert first["names"] == (record.backbone.split("@")[0],)
    assert first["views"] == record.views
    if record.views:
        ranges = (tuple(POLICY[k]) for k in ("brightness", "zoom"))
        assert (first["flip"], first["brightness"], first["zoom"]) == (False, *ranges)
        assert first["seed"] == 7
    for shown in (train, first):
        expected = ("outside", "lungs") if kind == "region" else ("whole", "mask")
        assert (shown["region"], shown["mask"]) == expected
    if kind == "taps":
        assert (first["taps"], first["tap_pooling"]) == ("pool1,pool2", "avg+max")
    if kind == "joined":
        second = extracts[1][1]
        assert (second["weights"], second["input_size"]) == ("random", 320)
        assert second["taps"] == "block1_pool"


@pytest.mark.parametrize(
    ("split", "words"),
    [
        ({"split_by": "folder"}, "--split-by folder --seed"),
        ({"split_by": "part", "own_val": True}, "--split-by part --val-part fold"),
        ({"split_by": "site=B"}, "--test-where site=B --seed"),
    ],
)
def test_the_split_of_the_source_is_said(split: dict[str, Any], words: str) -> None:
    """The line has the option by which the test set was kept, and no size of one."""
    record = make_record(**(PLAIN | {"head": "svm", "split": split}))
    line = commands(record, Known())[-1]
    assert words in line
    assert "--test-size" not in line


def test_an_ensemble_comes_after_its_members() -> None:
    """The members' lines, each once, and then the vote."""
    members = {name: make_record(**PLAIN, head=name) for name in ("svm", "logreg")}
    params = {"weights": "equal", "calibrate": False}
    record = make_record(
        **PLAIN, head="ensemble", members=[*members], head_is={"params": params}
    )
    lines = [parsed(line) for line in commands(record, Known(records=members))]
    vote = lines[-1][1]
    assert [n for n, _ in lines] == ["extract", "train-head", "train-head", "ensemble"]
    assert vote["members"] == ("svm", "logreg")
    assert (vote["weights"], vote["calibrate"]) == ("equal", False)


def test_the_file_of_a_network_is_looked_up() -> None:
    """The newest call of extract that used it knows its path."""
    calls = [
        Extraction(
            status="done",
            arguments=ExtractArguments(
                networks=[
                    ExtractedNetwork(name="own net", file=f"/{where}/own net.keras")
                ]
            ),
        )
        for where in ("old", "new")
    ]
    record = make_record(**PLAIN | {"backbone": "own net", "weights": "file"})
    line, _ = commands(record, Known(extracts=calls))
    assert parsed(line)[1]["names"] == ("/new/own net.keras",)


@pytest.mark.slow
def test_the_commands_find_their_own_run(
    image_folder: Path,
    toy_network: Path,
    run: Callable[..., tuple[int, str, str]],
) -> None:
    """Given again, the lines of the page find everything done."""
    words = ["extract", image_folder, "--group-by", r"(p\d{3})_", "--views", 1]
    words += ["-b", toy_network]
    assert run(*words)[0] == 0
    small = ["--preprocess", "tf", "--input-size", 48]
    assert run("extract", "--dataset", "chest", "-b", toy_network, *small)[0] == 0
    trained = [
        "train-head",
        "-b",
        "toynet@32",
        "-H",
        "logreg",
        "-H",
        "majority",
        "--no-tune",
        "--seed",
        1,
    ]
    assert run(*trained, "--folds", 3, "--test-size", 0.25)[0] == 0
    assert run("compare", "--html")[0] == 0
    page = Path("reports/chest/report.html").read_text()
    blocks = re.findall(r"<pre[^>]*><code>(.*?)</code></pre>", page, re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        lines = unescape(block).replace("\\\n", " ").splitlines()
        for path in (image_folder, toy_network):
            lines = [one.replace(f"FOLDER/{path.name}", str(path)) for one in lines]
        extracted, trained_again = (run(*shlex.split(line)[1:]) for line in lines)
        assert "all cached" in extracted[1], extracted
        assert "nothing to do" in trained_again[1], trained_again


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ("my nets/own.keras", "-b 'my nets/own.keras'"),
        ("/w/own.weights.h5", "-b own --weights /w/own.weights.h5"),
        (None, "-b FOLDER/own.keras"),
    ],
)
def test_the_file_of_a_finetuned_network(file: str | None, words: str) -> None:
    """A network that was never extracted is named by the file in its run's record."""
    record = make_record(
        **PLAIN | {"backbone": "own", "weights": "file", "input_size": 64},
        network_file=str(Path(file).absolute()) if file else None,
        head="finetune",
        head_is={"params": FinetuneSettings().params()},
        trainings=[{"fold": -1}],
    )
    assert f" {words} " in commands(record, Known())[0]


@pytest.mark.parametrize("only_test", [True, False])
def test_the_command_of_a_finetuned_run_is_finetune(only_test: bool) -> None:
    """What differs from the defaults is said, and the command line takes it."""
    settings = FinetuneSettings(
        head="mlp",
        unfreeze="last-2-blocks",
        epochs=7,
        policy=Policy(flip=False, brightness=(0.9, 1.1), zoom=(1.0, 1.3)),
    )
    record = make_record(
        **PLAIN | {"backbone": "vgg19", "weights": "random", "input_size": 64},
        preprocess="caffe",
        init_head=None,
        head="finetune",
        head_is={"params": settings.params()},
        policy=settings.policy.to_dict(),
        max_minutes=1.5,
        trainings=[{"fold": k} for k in ([-1] if only_test else [0, 1, -1])],
    )
    [line] = commands(record, Known())
    name, options = parsed(line)
    assert name == "finetune"
    assert options["names"] == ("vgg19",)
    assert (options["weights"], options["preprocess"]) == ("random", "caffe")
    assert (options["head"], options["epochs"], options["fold"]) == (
        "mlp", 7, "test" if only_test else "all",
    )  # fmt: skip
    assert (options["unfreeze"], options["max_minutes"]) == ("last-2-blocks", 1.5)
    assert (options["flip"], options["zoom"]) == (False, (1.0, 1.3))
    assert (options["seed"], options["split"], options["folds"]) == (3, "own", 4)
    assert options["calibrate"] is only_test
    for option in ("optimizer", "weight_decay", "patience", "tta"):
        assert options[option] == getattr(settings, option)
        assert option.replace("_", "-") not in line
