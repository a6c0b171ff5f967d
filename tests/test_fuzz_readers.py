"""Every file that a person can edit: odd values and odd bytes end in a line."""

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from mutations import (
    attributes_changed,
    bytes_changed,
    csv_changed,
    json_changed,
    npz_changed,
    toml_changed,
)
from records import CLASSES, make_run, rewrite
from toys import header, image_ids, make_dataset, write_store

from featcache import backbones, heads, study
from featcache.commands.audit import SCHEMA
from featcache.commands.audit.context import AuditContext
from featcache.commands.extract import measure
from featcache.commands.finetune import checkpoint
from featcache.commands.finetune.checkpoint import Checkpoint, State
from featcache.commands.scan import thumbs
from featcache.core import memo
from featcache.core.progress import SILENT
from featcache.dataset import manifest, splits
from featcache.dataset.narrowing import narrow
from featcache.errors import FeatcacheError
from featcache.evaluation import runs
from featcache.features import store
from featcache.features.extractions import read_extractions
from featcache.report.heatmaps import records as maps
from featcache.report.html import audit_section, charts, explain_section

SEED = 12
COUNT = 80  # mutations of each file


@dataclass(frozen=True)
class Reader:
    """A file and what reads it.

    Attributes:
        path: The file, as it is written by us.
        read: Reads it: a good value, or FeatcacheError.
        mutate: From its bytes to others.
    """

    path: Path
    read: Callable[[], Any]
    mutate: Callable[[random.Random, bytes], bytes]


def _run(folder: Path) -> Reader:
    run = make_run(folder, "logreg-toy-1")
    path = run.folder / "run.json"
    return Reader(path, lambda: runs.load(run.folder), json_changed)


def _predictions(folder: Path) -> Reader:
    ids = image_ids(6)
    columns: dict[str, Any] = {"image_id": ids, "label": [*CLASSES, *CLASSES]}
    columns |= {"group": ids, "split": "train", "fold": [0, 0, 0, 1, 1, 1]}
    columns |= {runs.PROBABILITY + name: [1.0, 0.0, 0.0] * 2 for name in CLASSES[:1]}
    columns |= {runs.PROBABILITY + name: [0.0, 0.5, 0.5] * 2 for name in CLASSES[1:]}
    table = pd.DataFrame(columns)[[*runs._KEYS, *list(columns)[-len(CLASSES) :]]]
    run = make_run(folder, "logreg-toy-1", table)

    def read() -> Any:
        return runs.load(run.folder).table

    read()
    return Reader(run.folder / runs.PREDICTIONS, read, csv_changed)


def _history(folder: Path) -> Reader:
    run = make_run(folder, "mlp-toy-1")
    path = run.folder / "history.csv"
    path.write_text("fold,epoch,loss,val_loss\n0,1,0.5,0.6\n0,2,0.4,0.5\n1,1,0.5,0.7\n")

    def read() -> object:
        rewrite(run.folder)  # the record is forged to fit the file
        return charts.learning(runs.load(run.folder))

    assert read()
    return Reader(path, read, csv_changed)


def _head(folder: Path) -> Reader:
    rng = np.random.default_rng(0)
    head = heads.make("logreg", tune=False)
    y = np.arange(30) % 3
    head.fit(rng.normal(size=(30, 4)).astype("f4"), y)
    head.save(folder)
    heads.load(folder)
    return Reader(folder / "head.json", lambda: heads.load(folder), json_changed)


def _manifest(folder: Path) -> Reader:
    made = make_dataset(folder, 12)
    path = made.folder / "manifest.csv"
    return Reader(path, lambda: manifest.load(made.folder).classes, csv_changed)


def _dataset(folder: Path) -> Reader:
    made = make_dataset(folder, 12)

    def read() -> Any:
        loaded = manifest.load(made.folder)
        return loaded.root, narrow(loaded, group_by="patient")

    return Reader(made.folder / "dataset.json", read, json_changed)


def _split(folder: Path) -> Reader:
    ids = image_ids(30)
    labels = [CLASSES[i % 3] for i in range(30)]
    path = folder / "splits-a.json"

    def read() -> Any:
        return splits.load_or_make(
            path, ids, labels, ids, name="a", folds=3, test_size=0.2, seed=0
        )

    read()
    return Reader(path, read, json_changed)


def _audited_split(folder: Path) -> Reader:
    made = make_dataset(folder, 12)
    path = made.folder / "splits-a.json"
    path.write_text(json.dumps({"images": dict.fromkeys(image_ids(12), 0)}))

    def read() -> Any:
        return AuditContext(made, folder, SILENT).splits

    return Reader(path, read, json_changed)


def _store(folder: Path) -> Reader:
    path = write_store(make_dataset(folder, 12), header(), taps={"conv": 3})

    def read() -> Any:
        opened = store.open_store(path)
        return opened.header.contract_id, opened.taps, opened.read()

    read()
    return Reader(path, read, attributes_changed)


def _sidecar(folder: Path) -> Reader:
    import zipfile

    with zipfile.ZipFile(folder / "net.keras", "w") as file:
        file.writestr("config.json", "{}")
    path = folder / "net.json"
    path.write_text(
        '{"preprocess": "tf", "input_size": 64, "taps": ["a", "b"], "output": "c"}'
    )
    network = str(folder / "net.keras")
    return Reader(path, lambda: backbones.resolve(network), json_changed)


def _config(folder: Path) -> Reader:
    import zipfile

    from featcache.backbones.archive import config_of

    path = folder / "net.keras"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("config.json", json.dumps({"class_name": "Functional"}))
    return Reader(path, lambda: config_of(path), bytes_changed)


def _memo(folder: Path) -> Reader:
    network = backbones.resolve("vgg16", "random")
    request = SimpleNamespace(cache=folder)
    job = SimpleNamespace(network=network, model=None)
    identity = {
        "architecture": network.architecture,
        "weights": backbones.weights_key(network),
    }
    path = memo.path_of(folder / "openvino", "weights-", identity)
    path.parent.mkdir()
    path.write_text(json.dumps(identity | {"weights_digest": "0" * 64}))

    def read() -> Any:
        value: Any = measure.weights_digest(request, job)
        assert value in ("0" * 64, "built"), value

    return Reader(path, read, json_changed)


def _audit(folder: Path) -> Reader:
    image = {"image_id": "a", "path": "a.png", "label": "x"}
    candidate = image | {"suggested": "y", "probability": 0.9}
    pair = {f"{k}_{side}": v for side in "ab" for k, v in image.items()}
    pair |= {"group_a": "1", "group_b": "2", "correlation": 0.99, "part": "test"}
    about = {"title": "t", "severity": "issue", "status": "finding", "message": "m"}
    checks = [
        {"code": code, **about, "evidence": rows}
        for code, rows in (("FC040", [candidate]), ("FC005", [pair]), ("FC002", [pair]))
    ]
    whole = {"schema": SCHEMA, "created": "2026", "run_id": None, "checks": checks}
    path = folder / "audit.json"
    path.write_text(json.dumps(whole))

    def read() -> Any:
        context: Any = SimpleNamespace(reports=folder, missing=[], runs=[])
        section = audit_section.read_audit(context, "")
        assert (section is None) == bool(context.missing)
        return section

    assert read()
    return Reader(path, read, json_changed)


def _maps_folder(folder: Path) -> Callable[[], Any]:
    pixels = np.zeros((8, 8), np.uint8)
    image = maps.ShownImage("ab", "a.png", "x", "test", 1, pixels)
    values = np.linspace(-1, 1, 64, dtype=np.float32).reshape(8, 8)
    shown = [maps.ShownMap(image, "x", "linear", 0.9, values)]
    sheets = [
        maps.Sheet(name, "Title", shown, {"linear": 1.0})
        for name in ("errors", "mean-linear")
    ]
    maps.save(sheets, folder)
    (folder / "maps.json").write_text('{"notes": ["a"], "maps": [{"path": "b"}]}')
    figure = {"label": "x", "method": "linear", "name": "deletion", "images": 3}
    figure |= {"groups": 2, "value": 0.5, "low": 0.25, "high": None}
    (folder / "faithfulness.json").write_text(json.dumps([figure, figure]))

    def read() -> Any:
        context: Any = SimpleNamespace(missing=[])
        return explain_section.map_section(context, folder)

    assert read().groups
    return read


def _maps_npz(folder: Path) -> Reader:
    read = _maps_folder(folder)
    return Reader(folder / "maps.npz", read, npz_changed)


def _maps_json(folder: Path) -> Reader:
    read = _maps_folder(folder)
    return Reader(folder / "maps.json", read, json_changed)


def _faithfulness(folder: Path) -> Reader:
    read = _maps_folder(folder)
    return Reader(folder / "faithfulness.json", read, json_changed)


def _extraction(folder: Path) -> Reader:
    networks = [{"name": "n", "file": "/a/n.keras", "input_size": 32}, {"file": None}]
    whole = {"status": "done", "started": "2026", "host": "h", "seconds": 1.5}
    whole |= {"command": ["featcache", "extract"], "arguments": {"networks": networks}}
    path = folder / "extract-2026-1.json"
    path.write_text(json.dumps(whole))

    def read() -> Any:
        return [(one.files, f"{one.seconds:.0f}") for one in read_extractions(folder)]

    assert len(read()[0][0]) == 3
    return Reader(path, read, json_changed)


def _checkpoint(folder: Path) -> Reader:
    one = Checkpoint(folder / "a.npz", "belongs")
    history = [{"epoch": 1.0, "loss": float("nan")}]
    arrays = [np.ones(3), np.zeros((2, 2))]
    one.save(State(epoch=1, history=history, best=arrays, variables=arrays))
    state, _ = one.load()
    assert state is not None
    assert state.best_loss == float("inf")
    assert np.isnan(state.history[0]["loss"])
    return Reader(one.path, one.load, npz_changed)


def _other_checkpoint(folder: Path) -> Reader:
    path = folder / "old" / checkpoint.ABOUT
    path.parent.mkdir()
    path.write_text('{"network": "vgg16", "settings": {"epochs": 3}, "head": "mlp"}')
    decides = {"network": "vgg16", "settings": {"epochs": 4}, "head": "mlp"}

    def read() -> Any:
        return checkpoint.others(folder / "new", decides)

    assert len(read()) == 1
    return Reader(path, read, json_changed)


def _thumbs(folder: Path) -> Reader:
    thumbs.save(folder, {"a": np.zeros(1024, np.uint8)})
    return Reader(folder / thumbs.FILE, lambda: thumbs.load(folder), npz_changed)


STUDY = """name = "toy"
seed = 1
[dataset]
source = "chest"
[[extract]]
name = "all"
backbones = ["metadata", "vgg16"]
input_size = [32, 48]
views = 1
[evaluation]
folds = 3
tune = false
[[train]]
name = "each"
from = "all"
heads = ["logreg", "majority"]
[[ensemble]]
name = "mean"
members = ["each"]
"""


def _study(folder: Path) -> Reader:
    for label in CLASSES:
        (folder / "chest" / label).mkdir(parents=True)
        (folder / "chest" / label / "1.png").touch()
    path = folder / "toy.toml"
    path.write_text(STUDY)

    return Reader(path, lambda: study.read(path), toml_changed)


READERS: dict[str, Callable[[Path], Reader]] = {
    "run.json": _run,
    "predictions.csv": _predictions,
    "history.csv": _history,
    "head.json": _head,
    "manifest.csv": _manifest,
    "dataset.json": _dataset,
    "split": _split,
    "split of the audit": _audited_split,
    "store": _store,
    "sidecar": _sidecar,
    "config of a network": _config,
    "memo": _memo,
    "audit.json": _audit,
    "maps.npz": _maps_npz,
    "maps.json": _maps_json,
    "faithfulness.json": _faithfulness,
    "extract record": _extraction,
    "checkpoint": _checkpoint,
    "settings of a checkpoint": _other_checkpoint,
    "thumbnails": _thumbs,
    "study": _study,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", READERS)
def test_a_file_that_was_changed_ends_in_a_value_or_a_line(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is in a file, its reader gives a value or raises FeatcacheError."""
    monkeypatch.setattr(measure.backbones, "build", lambda network: None)
    monkeypatch.setattr(measure.backbones, "weights_digest", lambda model: "built")
    reader = READERS[name](tmp_path)
    original = reader.path.read_bytes()
    reader.read()
    rng = random.Random(SEED)
    failures: dict[str, bytes] = {}
    for _ in range(COUNT):
        changed = reader.mutate(rng, original)
        reader.path.write_bytes(changed)
        try:
            reader.read()
        except FeatcacheError as error:
            if len(str(error).splitlines()) > 1:
                failures.setdefault(str(error), changed[:300])
        except Exception as error:  # noqa: BLE001
            failures.setdefault(f"{type(error).__name__}: {error}"[:200], changed[:300])
    assert failures == {}
