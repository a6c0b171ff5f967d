"""The study of 2021 runs to its end on a folder that looks like its database."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from featcache.dataset import phantom

STUDY = Path(__file__).parents[2] / "studies" / "granada.toml"
IMAGES = 30


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """Phantoms as ``COVID/COVID (1).png``, ... ``NORMAL/NORMAL (1).png``."""
    phantom.write(tmp_path / "phantoms", IMAGES, size=96)
    folder = tmp_path / "database"
    for label in phantom.CLASSES:
        shutil.copytree(tmp_path / "phantoms" / label / "images", folder / label)
    return folder


@pytest.mark.slow
def test_granada_runs_to_its_end(
    database: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    run: Callable[..., tuple[int, str, str]],
) -> None:
    """All versions, of one network with random weights; then there is nothing to do.

    What it will take is said before anything is computed.
    """
    monkeypatch.setenv("COVID_RADIOGRAPHY", str(database))
    text = STUDY.read_text(encoding="utf-8")
    small = 'backbones = ["vgg19"]\nweights = "random"'
    text = text.replace('backbones = ["classic5"]', small).replace("= 224", "= 32")
    text = text.replace('fold = "test"', 'fold = "test"\nepochs = 1')
    file = tmp_path / "granada.toml"
    file.write_text(text, encoding="utf-8")
    code, out, err = run("run", file, "--jobs", "1")
    assert code == 0, err
    before, after = err.split("- extract raw")
    assert "- finetune version 3" in after
    assert re.search(r"embeddings to compute \(at a guess .* fits of heads", before)
    assert "1 network to fine-tune (at a guess" in before
    assert "of disk, " in before
    n_runs = 4 + 1 + 6  # versions 0 to 2b, version 3, two heads of three baselines
    assert f"{n_runs} runs trained" in out
    home = tmp_path / "reports" / "granada"
    assert all((home / f"granada.{kind}").is_file() for kind in ("html", "md", "csv"))
    rows = json.loads(run("compare", "--on", "test", "--json")[1])
    assert {row["label"] for row in rows} == {"0", "1", "2", "2b", "3", None}
    code, out, err = run("run", file, "--jobs", "1")
    assert (code, "Nothing to do." in out) == (0, True)
    assert "all heads are trained" in err
    assert "to fine-tune" not in err
