"""The report has pages of the test set."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import report_study
from report_pages import Reader, best, context, page, run_sections
from report_study import IMAGES, Study

from featcache.commands.compare import compare
from featcache.evaluation import runs
from featcache.evaluation.runs import TEST


def only_tested(study: Study) -> Path:
    """A run that is judged on the test set alone, and wrong on none of it."""
    folder = report_study.write_run(study, "finetune", 60, {"store": None})
    path = folder / runs.PREDICTIONS
    table = pd.read_csv(path, keep_default_na=False)
    table[table["split"] == TEST].to_csv(path, index=False)
    rows = [(-1, e, 1 / e, 0.5 + e / 10, 1.0, 0.5) for e in (1, 2, 3)]
    columns = ["fold", "epoch", "loss", "accuracy", "val_loss", "val_accuracy"]
    pd.DataFrame(rows, columns=columns).to_csv(folder / "history.csv", index=False)
    report_study.rewrite(folder)
    return folder


@pytest.mark.slow
def test_a_page_of_the_test_part_says_so(study: Study) -> None:
    """Ranked by it, with its figures; the run that has no other is there and best."""
    only_tested(study)
    read = Reader(page(study, TEST))
    assert (
        re.findall(r'<a href="#run-\d">(.*?)</a>', page(study, TEST))[0] == "finetune"
    )
    assert "on the test set of split" in read.text
    assert "Best run: accuracy, on the test set" in read.text
    assert "Figures are of the test set alone" in read.text
    assert "ROC, one class against the rest, test set" in read.text
    assert "An untouched test set" in read.text
    assert "test accuracy" not in read.text
    tested = int((best(study).table["split"] == TEST).sum())
    assert f"Evaluated on {tested} images" in read.text


def test_figures_of_the_test_part_are_its_own(study: Study) -> None:
    """Of `logreg`'s worst errors only those of the test set are shown."""
    [row] = [r for r in compare(study.reports, part=TEST).rows if r.head == "logreg"]
    table = best(study).table
    p = table[[f"p_{c}" for c in best(study).classes]].to_numpy()
    right = np.array(best(study).classes)[p.argmax(axis=1)] == table["label"]
    tested = table["split"] == TEST
    assert row.accuracy == pytest.approx(right[tested].mean())
    [section] = [s for s in run_sections(page(study, TEST)) if "<h3>logreg " in s]
    errors = section.split("Worst errors")[1]
    assert len(re.findall(r"predicted as", errors)) == (~right[tested]).sum()
    assert "out-of-fold" not in errors


def test_data_of_the_test_part_knows_the_whole_split(study: Study) -> None:
    """Where the best run has the test set alone, another tells of the folds."""
    only_tested(study)
    of_page = context(study, TEST)
    assert len(of_page.best.table) < len(of_page.evaluated) == IMAGES


@pytest.mark.slow
def test_a_run_of_the_test_part_has_its_curve(study: Study) -> None:
    """That of its one model, where there are no folds."""
    only_tested(study)
    sections = run_sections(page(study, TEST))
    assert "Learning: loss" in sections[0]
    assert "The final model, fitted on the whole training set" in sections[0]
    assert "Thick: mean over the folds" not in sections[0]
    [softmax] = [s for s in sections if "<h3>softmax " in s]
    assert "Thick: mean over the folds" in softmax


def test_the_command_writes_a_page_of_the_test_part(study: Study, run) -> None:
    """Beside that of the folds and under a name of its own."""
    words = ("--cache", study.cache.parent, "--reports", study.reports.parent)
    for more in ((), ("--on", "test")):
        code, _, err = run("compare", *words, "--html", *more)
        assert code == 0, err
    names = {path.name for path in study.reports.glob("*.html")}
    assert names == {"report.html", "report-test.html"}
    folds = (study.reports / "report.html").read_text()
    assert "Figures are out-of-fold" in folds
    assert "Figures are of the test set" not in folds
