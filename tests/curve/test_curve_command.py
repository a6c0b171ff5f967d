"""``featcache curve`` on a store whose features nearly tell the class."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from toys import header, make_dataset, train_flat, write_store

import featcache
from featcache.cli import cli
from featcache.commands.curve import curve, curve_path, fits, read_curves
from featcache.dataset.manifest import Manifest
from featcache.errors import RunError, UsageError
from featcache.evaluation.runs import Run
from featcache.report import curve_picture, curves
from featcache.report.html import charts

COUNT = 240


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> tuple[Manifest, Run]:
    folder = tmp_path_factory.mktemp("curve")
    dataset = make_dataset(folder, COUNT)
    write_store(dataset, header(), views=1)
    trained = train_flat(
        dataset, folder / "reports", heads=["logreg"], tune=False, jobs=1, folds=3
    )
    return dataset, trained.runs[0]


@pytest.fixture(scope="module")
def learnt(home: tuple[Manifest, Run]) -> Any:
    return curve(*home, draws=2, jobs=1)


def test_the_last_point_is_the_run(home: tuple[Manifest, Run], learnt: Any) -> None:
    """All training groups give the run's own out-of-fold accuracy."""
    last = learnt.points[-1]
    assert last.share == 1
    assert last.score == pytest.approx(home[1].record.scores["train"]["accuracy"])
    assert learnt.unit == "patients"
    groups = [point.groups for point in learnt.points]
    assert groups == sorted(groups)
    assert len(groups) >= 4
    assert learnt.fit is not None
    assert [one.class_name for one in learnt.classes] == home[0].classes


def test_the_curve_is_kept_and_repeatable(
    home: tuple[Manifest, Run], learnt: Any
) -> None:
    """The record is read back, and equal calls give equal curves; damage is none."""
    assert read_curves(home[1]) == [learnt]
    again = curve(*home, draws=2, jobs=1, classes=False)
    assert again.points == learnt.points
    assert not again.classes
    path = curve_path(home[1], "accuracy")
    text = path.read_text()
    path.write_text(text.replace("0.", "1.", 1))
    assert read_curves(home[1]) == []
    path.write_text(text)


def test_words_and_pictures(learnt: Any) -> None:
    """Sentences, dots, chart and PNG show every point."""
    text = " ".join(curves.sentences(learnt))
    assert "patients" in text
    assert "Training without half of" in text
    assert curve_picture.terminal(learnt).count("●") == len(learnt.points)
    bands = curves.gain_bands(learnt)
    assert len(bands) == len(learnt.fit.ahead)
    assert all(
        low <= a.score <= high
        for a, (_, low, high) in zip(learnt.fit.ahead, bands, strict=True)
    )
    assert curve_picture.png(learnt).size == (960, 600)
    assert charts.learning_curve(learnt).svg.text.count('<path class="s0"') == len(
        learnt.points
    )


def test_words_of_what_cannot_be_known(learnt: Any) -> None:
    """No interval, no check and no negative nought."""
    need = replace(learnt.classes[0], loss=-1e-9, low=math.nan, high=math.nan)
    fit = replace(learnt.fit, back_test=None)
    text = " ".join(curves.sentences(replace(learnt, fit=fit, classes=[need])))
    assert "costs 0.0 points; no interval" in text
    assert "could not be checked" in text


def test_the_command_prints_saves_and_refuses(
    home: tuple[Manifest, Run], tmp_path: Path
) -> None:
    """JSON has points and fit; the picture is a PNG and is not replaced unasked."""
    folders = ["--cache", str(home[0].folder.parent)]
    folders += ["--reports", str(home[1].folder.parents[2]), "--jobs", "1"]
    picture = tmp_path / "curve.png"
    call = ["curve", "1", *folders, "--draws", "2", "--no-classes"]
    result = CliRunner().invoke(cli, [*call, "--json", "--png", str(picture)])
    assert result.exit_code == 0, result.output
    record = json.loads(result.stdout)
    assert {"points", "fit"} <= set(record)
    assert np.asarray(Image.open(picture)).any()
    again = CliRunner().invoke(cli, [*call, "--png", str(picture)])
    assert again.exit_code == 1
    both = CliRunner().invoke(cli, [*call, "-b", "toy"])
    assert both.exit_code == 1
    assert "got 1 and toy" in both.stderr
    neither = CliRunner().invoke(cli, ["curve", *folders])
    assert neither.exit_code == 1


def test_an_interrupted_curve_keeps_nothing(
    home: tuple[Manifest, Run],
    run: Callable[..., tuple[int, str, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And says so; other commands keep what they have done."""

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(fits, "_unfitted", interrupted)
    folders = ["--cache", home[0].folder.parent, "--reports", home[1].folder.parents[2]]
    code, _, err = run("curve", "1", *folders, "--jobs", "1")
    assert code == 130
    assert "The fits are not kept" in err


def test_the_python_face_shows_itself(home: tuple[Manifest, Run]) -> None:
    """The result has a table, sentences and a card."""
    result = featcache.curve(
        home[0], home[1], reports=home[1].folder.parents[2], draws=2, jobs=1,
        classes=False, metric="auc",
    )  # fmt: skip
    assert len(result.frame) == len(result.points)
    assert result.text
    assert "<svg" in result._repr_html_()


def test_what_has_no_curve_is_refused(home: tuple[Manifest, Run]) -> None:
    """One draw, no seed, no process, and runs without cached features."""
    wrong: list[dict[str, Any]] = [{"draws": 1}, {"seed": -1}, {"jobs": -3}]
    for options in wrong:
        with pytest.raises(UsageError, match=next(iter(options))):
            curve(*home, **options)
    control = train_flat(
        home[0], home[1].folder.parents[2], heads=["logreg"], tune=False, jobs=1,
        folds=3, test_size=0.0,
    ).runs[0]  # fmt: skip
    control.record.members.append("another")
    with pytest.raises(RunError, match="ensemble"):
        curve(home[0], control)
