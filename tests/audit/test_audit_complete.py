"""``audit --complete`` makes what its checks lack, and finds what was planted."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from toys import CLASSES

from featcache.dataset.manifest import Manifest
from featcache.errors import UsageError
from featcache.study import completion

Run = Callable[..., tuple[int, str, str]]


def marked_images(root: Path) -> Path:
    """48 noisy images of 24 patients, the frame's grey mostly that of the class."""
    for label, name in enumerate(CLASSES):
        for kind in ("images", "masks"):
            (root / name / kind).mkdir(parents=True)
        for i in range(16):
            rng = np.random.default_rng([label, i])
            grey = rng.integers(90, 166, (48, 48))
            mask = np.zeros((48, 48), np.uint8)
            mask[8:40, 8:40] = 255
            shade = (label + (i % 8 == 0)) % 3  # some are wrong: it can be fitted
            frame = 28 + 100 * shade + rng.integers(-9, 9, grey.shape)
            grey = np.where(mask, grey, frame).astype(np.uint8)
            Image.fromarray(grey).save(
                root / name / "images" / f"p{label}{i // 2}-{i}.png"
            )
            Image.fromarray(mask).save(
                root / name / "masks" / f"p{label}{i // 2}-{i}.png"
            )
    return root


@pytest.mark.slow
def test_one_command_finds_a_planted_marker(
    tmp_path: Path,
    toy_network: Path,
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On a dataset that was only scanned; the second call computes nothing."""
    source = marked_images(tmp_path / "x")
    assert run("scan", source, "--group-by", r"(p\d+)-")[0] == 0
    monkeypatch.setattr(completion, "ON_BASELINES", ("logreg",))
    command = ("audit", "--complete", "-b", toy_network, "--jobs", 1, "--json")
    code, out, err = run(*command)
    assert code == 0, err
    status = {row["code"]: row["status"] for row in json.loads(out)}
    assert [status[f"FC02{n}"] for n in (1, 3, 5)] == ["finding"] * 3
    assert status["FC020"] != "not-applicable"
    runs = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("run.json")}
    code, again, _ = run("audit", "--complete", "--json")
    assert code == 0
    assert json.loads(again) == json.loads(out)
    assert runs == {p: p.stat().st_mtime_ns for p in tmp_path.rglob("run.json")}


@pytest.mark.slow
def test_an_int8_run_of_another_seed_gets_its_controls(
    tmp_path: Path, toy_network: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their rows go to the store of the run, calibrated on its training images."""
    pytest.importorskip("nncf", reason="needs the extra int8")
    monkeypatch.setattr(completion, "ON_BASELINES", ("logreg",))
    source = marked_images(tmp_path / "x")
    assert run("scan", source, "--group-by", r"(p\d+)-")[0] == 0
    extract = ("extract", "--dataset", "x", "-b", toy_network, "--seed", 1)
    assert run(*extract, "--precision", "int8")[0] == 0
    train = ("train-head", "-H", "logreg", "--seed", 1, "--jobs", 1)
    assert run(*train)[0] == 0
    code, out, err = run("audit", "--complete", "--jobs", 1, "--json")
    assert code == 0, err
    status = {row["code"]: row["status"] for row in json.loads(out)}
    assert "not-applicable" not in [status[f"FC02{n}"] for n in (1, 3, 5)]
    assert len([*tmp_path.glob("cache/x/features/toynet*.h5")]) == 1


def test_without_a_network_it_says_which_option_names_one(
    toy: Manifest, reports: Path
) -> None:
    """Nothing is computed before; a baseline is no network."""
    for names in ((), ("pixels48",)):
        with pytest.raises(UsageError, match="-b mobilenetv2"):
            completion.complete(toy, reports, names)
    assert not list(toy.folder.glob("features/*"))


def test_its_options_need_it(run: Run) -> None:
    """A network that nothing would be done with is refused."""
    code, _, err = run("audit", "-b", "mobilenet_v2")
    assert code != 0
    assert "--complete" in err
