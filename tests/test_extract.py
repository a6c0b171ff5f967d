"""Extraction: only what is missing, never lost, never thinned in silence."""

import os
import random
import shlex
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from toys import stopping

import featcache
from featcache import backbones
from featcache.backbones.engines import choose
from featcache.commands.extract import StoreResult, extract, plan
from featcache.commands.scan import scan
from featcache.dataset import manifest, views
from featcache.dataset.manifest import Manifest
from featcache.dataset.views import Policy
from featcache.errors import DatasetError, LockedError, StoreError, UsageError
from featcache.features import store


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Images pushed through a network, one entry a batch."""
    seen: list[int] = []
    make = choose.make

    def count(engine) -> object:
        run = engine.run

        def run_and_count(batches):
            return run(seen.append(len(b)) or b for b in batches)

        engine.run = run_and_count
        return engine

    def counted(*arguments: object, **options: object) -> list[object]:
        return [count(engine) for engine in make(*arguments, **options)]

    monkeypatch.setattr(choose, "make", counted)
    return seen


def features(path: Path) -> dict[tuple[str, int, int], bytes]:
    """Each row's embedding by its key."""
    found = store.open_store(path)
    named = found.keys[store.KEY].itertuples(index=False, name=None)
    return {
        key: row.tobytes() for key, row in zip(named, found.features(), strict=True)
    }


def test_every_image_and_view_is_embedded_once(dataset, toy, passes) -> None:
    """36 images in a plain and two augmented views are 108 passes, no more."""
    result = toy(dataset, views=2)
    assert (result.rows, result.computed, result.dim) == (108, 108, 12)
    assert sum(passes) == 108
    found = store.open_store(result.path)
    assert not found.keys.duplicated(store.KEY).any()
    assert found.header.policies == [Policy().to_dict()]


def test_a_second_call_makes_no_pass_and_builds_no_network(
    dataset, toy, passes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is there costs nothing, not even loading the network."""
    toy(dataset, views=1)
    before = list(passes)
    monkeypatch.setattr(backbones, "build", None)
    assert toy(dataset, views=1).computed == 0
    assert toy(dataset).computed == 0
    assert passes == before


def test_only_what_is_missing_is_computed(
    dataset, toy, passes, image_folder: Path
) -> None:
    """More views, another policy and more images cost just their own rows."""
    assert toy(dataset).computed == 36
    assert toy(dataset, views=2).computed == 72
    assert toy(dataset, views=1, policy=Policy(flip=False)).computed == 36
    from toys import picture

    picture(999, 50).save(image_folder / "COVID" / "new.png")
    more = scan(image_folder, dataset.folder.parent).manifest
    result = toy(more, views=2)
    assert (result.computed, result.rows) == (3, 147)
    assert sum(passes) == 147


def test_features_do_not_depend_on_the_way_they_were_asked_for(
    dataset, toy, tmp_path: Path
) -> None:
    """Views at once or later, in any batch size: the same embeddings."""
    once = toy(dataset, views=2)
    other = replace(dataset, folder=tmp_path / "cache2" / "chest")
    toy(other, batch_size=5)
    later = toy(other, views=2, batch_size=7)
    one, two = features(once.path), features(later.path)
    assert one.keys() == two.keys()
    for key, row in one.items():
        np.testing.assert_allclose(
            np.frombuffer(row, np.float32),
            np.frombuffer(two[key], np.float32),
            rtol=1e-4,
            atol=1e-5,
        )


def test_rows_belong_to_their_images(dataset, toy, toy_network: Path) -> None:
    """A row is the embedding of the view that its key names, of that very file."""
    from featcache.backbones.engines.tensorflow import TensorFlowEngine
    from featcache.dataset import images

    result = toy(dataset, views=1)
    network = backbones.resolve(str(toy_network))
    graph = backbones.with_pixels(backbones.build(network), network)
    engine = TensorFlowEngine(graph, batch_size=1)
    X, y, _, meta = featcache.load(result.path, views=1)
    for row in (0, 1, 35, 70):
        fact = meta.iloc[row]
        image = images.decode((dataset.root / fact["path"]).read_bytes())
        drawn = views.draw(Policy(), fact["image_id"], 1) if fact["view"] else None
        (outputs,) = engine.run([views.render(image, 32, drawn)[None]])
        np.testing.assert_allclose(X[row], outputs["features"][0], 1e-4, 1e-5)
        assert y[row] == Path(fact["path"]).parts[0]


def test_a_moved_file_keeps_its_features(dataset, toy, image_folder: Path) -> None:
    """Identity is content: renaming and relabelling cost no pass."""
    toy(dataset)
    (image_folder / "COVID").rename(image_folder / "Corona")
    again = scan(image_folder, dataset.folder.parent).manifest
    assert toy(again).computed == 0
    assert again.classes == ["Corona", "NORMAL", "Viral Pneumonia"]


def test_two_networks_do_not_share_a_store(dataset, toy, toy_network: Path) -> None:
    """Another input size, preprocessing or network is another contract and file."""
    network = backbones.resolve(str(toy_network))
    asked = [
        network,
        replace(network, input_size=48),
        replace(network, preprocess="caffe"),
    ]
    results = extract(dataset, asked, batch_size=36, engine="tensorflow")
    assert len({r.path for r in results}) == 3
    assert [r.computed for r in results] == [36, 36, 36]


def test_an_image_that_vanished_is_told_and_not_skipped_in_silence(
    dataset, toy
) -> None:
    """A missing and a changed file fail with reasons; the others are stored."""
    paths = dataset.ok["path"].tolist()
    (dataset.root / paths[0]).unlink()
    (dataset.root / paths[9]).write_bytes((dataset.root / paths[10]).read_bytes())
    result = toy(dataset, max_bad=0.1)
    assert result.failures == [
        (paths[0], "cannot be read: No such file or directory"),
        (paths[9], "changed since the scan"),
    ]
    assert (result.rows, result.computed) == (34, 34)


def test_too_many_bad_images_are_an_error_after_the_good_are_stored(
    dataset, toy
) -> None:
    """More than --max-bad fails, and loses nothing."""
    for path in dataset.ok["path"].tolist()[:4]:
        (dataset.root / path).unlink()
    with pytest.raises(DatasetError, match=r"at most 5 % unreadable.*got 4 of 36"):
        toy(dataset)
    (only,) = (dataset.folder / "features").glob("*.h5")
    assert len(store.open_store(only).keys) == 32


def test_a_root_that_is_gone_is_an_error_at_once(dataset, toy) -> None:
    """A drive that is not mounted makes no image bad; the way out keeps the groups."""
    dataset.root.rename(dataset.root.with_name("elsewhere"))
    with pytest.raises(DatasetError, match="Scan them at their new location") as caught:
        toy(dataset)
    by = shlex.join(["--group-by", dataset.settings.group_by])
    assert f"featcache scan SOURCE --dataset chest {by} (" in str(caught.value)


def test_ctrl_c_keeps_what_is_sealed_and_leaves_no_lock(
    dataset, toy, passes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After an interrupt the next call computes only the rest."""
    with pytest.raises(KeyboardInterrupt):
        toy(dataset, reporter=stopping(16))
    assert not list((dataset.folder / "features").glob("*.lock"))
    assert toy(dataset).computed == 20
    assert sum(passes) == 36


def test_a_second_process_is_refused(dataset, toy) -> None:
    """While one writes a store, another is told who and loses nothing."""
    path = toy(dataset).path
    with store.writing(path), pytest.raises(LockedError, match=f"pid {os.getpid()}"):
        toy(dataset, views=1)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"views": -1}, "`views`"),
        ({"views": 70000}, "`views`"),
        ({"engine": "torch"}, "`engine`"),
        ({"batch_size": 0}, "`batch_size`"),
        ({"max_bad": 2.0}, "`max_bad`"),
        (
            {
                "views": 1,
                "policy": Policy(flip=False, brightness=(1, 1), zoom=(1, 1)),
            },
            "equal view 0",
        ),
    ],
)
def test_options_that_can_never_work_are_refused(dataset, toy, options, said) -> None:
    """Before any work is done, naming the flag."""
    with pytest.raises(UsageError, match=said):
        toy(dataset, **options)


KILLED = """
import sys, time
from pathlib import Path
from featcache import backbones
from featcache.dataset import manifest
from featcache.commands.extract import extract as run, pipeline
from featcache.core.progress import Reporter
pipeline._SEAL_SECONDS = 0.02
class Slow(Reporter):
    def progress(self, name, done, total):
        print(done, flush=True)
        time.sleep(0.02)
run(manifest.load(Path(sys.argv[1])), backbones.resolve_all(sys.argv[2:]), views=5,
    batch_size=8, engine="tensorflow", reporter=Slow())
"""


@pytest.mark.slow
def test_kill_minus_9_at_a_random_moment_changes_nothing(
    dataset, toy_network: Path, tmp_path: Path
) -> None:
    """Killed and run again: the bytes of an undisturbed run.

    So it is for a network and for the baselines beside it.
    """
    rng = random.Random(7)
    names = [str(toy_network), "baselines"]

    def whole(dataset: Manifest) -> list[StoreResult]:
        options = {"views": 5, "batch_size": 8, "engine": "tensorflow"}
        return extract(dataset, backbones.resolve_all(names), **options)

    undisturbed = [features(result.path) for result in whole(dataset)]
    other = replace(dataset, folder=tmp_path / "cache2" / "chest")
    manifest.save(other)
    command = [sys.executable, "-c", KILLED, str(other.folder), *names]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for _ in range(rng.randint(4, 20)):
            process.stdout.readline()
        process.send_signal(signal.SIGKILL)
    results = whole(other)
    assert [features(result.path) for result in results] == undisturbed
    assert sum(result.computed for result in results) < 4 * 216
    assert not list((other.folder / "features").glob(".*"))


def test_a_changed_number_is_not_copied(dataset, toy) -> None:
    """More views of a store with an edited feature are refused; nothing changes."""
    path = toy(dataset).path
    with h5py.File(path, "r+") as file:
        file["features"][0] += 50
    content = path.read_bytes()
    with pytest.raises(StoreError, match="features with another checksum"):
        toy(dataset, views=1)
    assert path.read_bytes() == content


def test_a_read_only_cache_serves_what_it_has(
    dataset, toy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All cached: nothing is written; something missing: one error that says so."""
    path = toy(dataset).path
    before = sorted(dataset.folder.rglob("*"))
    monkeypatch.setattr(plan.os, "access", lambda *_: False)
    result = toy(dataset)
    assert (result.path, result.computed, result.rows) == (path, 0, 36)
    with pytest.raises(StoreError, match="it cannot be written; got 36 that are"):
        toy(dataset, views=1)
    with pytest.raises(StoreError, match="it cannot be written; got none"):
        toy(dataset, dtype="float16")
    assert sorted(dataset.folder.rglob("*")) == before


def test_int8_without_nncf_is_refused_at_once(
    dataset, toy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No network is converted first."""
    monkeypatch.setitem(sys.modules, "nncf", None)
    with pytest.raises(UsageError, match=r"featcache\[int8\]"):
        toy(dataset, precision="int8")
    assert not list(dataset.folder.parent.rglob("*.xml"))
