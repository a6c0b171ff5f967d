"""Another hospital as the test set, without one of the classes: from scan to page."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from featcache.evaluation import runs
from featcache.evaluation.runs import Run

Call = Callable[..., tuple[int, str, str]]
pytestmark = pytest.mark.slow
STUDY = """
[dataset]
source = "chest.csv"

[[extract]]
backbones = ["${NET}"]
engine = "tensorflow"

[evaluation]
test_where = "site=B"
folds = 2
tune = false

[[train]]
name = "heads"
heads = ["logreg", "majority"]

[[finetune]]
name = "whole"
backbones = ["${NET}"]
epochs = 1
batch_size = 8

[[ensemble]]
name = "mean"
members = ["heads/logreg", "whole"]

[report]
html = true
formats = ["markdown"]

[audit]
"""


@pytest.fixture
def table(image_folder: Path, tmp_path: Path) -> pd.DataFrame:
    """36 images; of each class but the last, one patient comes from hospital B."""
    files = pd.Series(sorted(map(str, image_folder.rglob("*.*"))))
    table = pd.DataFrame({"path": files, "label": files.map(lambda p: Path(p).parent)})
    table["label"] = table["label"].map(lambda folder: folder.name)
    table["group"] = files.map(lambda p: re.findall(r"p\d{3}", p)[-1])
    first = table.groupby("label")["group"].transform("min")
    is_site = (table["group"] == first) & (table["label"] != table["label"].max())
    table["site"] = np.where(is_site, "B", "A")
    table.to_csv(tmp_path / "chest.csv", index=False)
    return table


def check_run(run: Run, table: pd.DataFrame, *, on_folds: bool) -> None:
    """Hospital B is the test set, and no other image is; its figures are numbers."""
    assert run.record.split.split_by == "site=B"
    tested = run.table[run.table["split"] == "test"]
    at_site = table[table["site"] == "B"]
    assert sorted(tested["group"]) == sorted(at_site["group"])
    assert set(tested["label"]) == set(at_site["label"]) < set(run.classes)
    assert run.record.scores.keys() == {"test", *(["train"] if on_folds else [])}
    assert np.isfinite(list(run.record.scores["test"].values())).all()


@pytest.mark.parametrize("fold", ["all", "test"])
def test_finetune_tests_on_a_site(
    table: pd.DataFrame, run: Call, toy_network: Path, fold: str
) -> None:
    """The run is made, ranked, shown and audited."""
    assert run("scan", "chest.csv", "--dataset", "chest")[0] == 0
    words = ["finetune", "--dataset", "chest", "-b", toy_network, "--fold", fold]
    words += ["--epochs", 1, "--batch-size", 8, "--folds", 2]
    code, out, err = run(*words, "--test-where", "site=B")
    assert code == 0, err
    (folder,) = Path("reports/chest/runs").glob("finetune*")
    check_run(runs.load(folder), table, on_folds=fold == "all")
    code, out, err = run("compare", "--on", "test", "--json")
    (row,) = json.loads(out)
    assert (code, 0 <= row["accuracy"] <= 1, 0 <= row["macro_f1"] <= 1) == (
        0,
        True,
        True,
    )
    code, _, err = run("compare", "--on", "test", "--html")
    assert code == 0, err
    page = Path("reports/chest/report-test.html").read_text()
    assert "--test-where site=B" in page
    assert run("audit", "--dataset", "chest")[0] == 0
    code, _, err = run(*words, "--test-where", "site=C")
    assert (code, "values are A, B" in err) == (1, True)


def test_a_study_tests_on_a_site(
    table: pd.DataFrame, run: Call, study_file: Callable[[str], Path], tmp_path: Path
) -> None:
    """Heads, networks and their ensemble alike; a second call does nothing."""
    file = tmp_path / "site.toml"
    file.write_text(study_file(STUDY).read_text())
    code, _, err = run("run", file)
    assert code == 0, err
    folders = sorted(Path("reports").glob("*/runs/*"))
    heads = [runs.load(folder).record.head for folder in folders]
    assert sorted(heads) == ["ensemble", "finetune", "logreg", "majority"]
    for folder in folders:
        check_run(runs.load(folder), table, on_folds=True)
    (page,) = Path("reports").glob("*/site.html")
    assert "--test-where site=B" in page.read_text()
    code, out, err = run("run", file)
    assert (code, "Nothing to do." in out) == (0, True), err
