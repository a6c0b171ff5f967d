"""The Python face: names, words, datasets, results that show themselves."""

import inspect
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from toys import header, make_dataset, write_store

import featcache
from featcache import cli
from featcache.api import display
from featcache.api.progress import show
from featcache.commands import audit, explain, extract, finetune, scan, train_head
from featcache.core.options import parameters
from featcache.errors import (
    DatasetError,
    HeadError,
    RunError,
    UnknownNameError,
    UsageError,
)
from featcache.heads import estimators


class Local(GaussianNB):
    """A classifier that can be imported from this module."""


@pytest.fixture
def chest(tmp_path):
    """A dataset of 90 images with a store of toy features."""
    made = make_dataset(tmp_path)
    write_store(made, header())
    return featcache.Dataset(made, tmp_path / "reports")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Another such dataset with three runs; tests only read it or add to it."""
    folder = tmp_path_factory.mktemp("trained")
    made = make_dataset(folder)
    write_store(made, header())
    chest = featcache.Dataset(made, folder / "reports")
    chest.train_heads(["logreg", "majority", GaussianNB()], jobs=1, tune=False)
    return chest


# --- names ------------------------------------------------------------------------


def test_every_name_is_there_and_lazy():
    """Each name of `__all__` resolves; `dir` lists them; others are refused."""
    for name in featcache.__all__:
        assert getattr(featcache, name) is not None
    assert set(featcache.__all__) <= set(dir(featcache))
    with pytest.raises(AttributeError, match="scann"):
        _ = featcache.scann


def test_type_checkers_see_the_names():
    """What is imported for type checkers is what is lazily given."""
    text = Path(featcache.__file__).read_text()
    assert {
        name for name in featcache.__all__ if f"import {name} as {name}" in text
    } == {*featcache.__all__} - {"__version__"}


@pytest.mark.slow
def test_star_import_hides_only_open():
    """`from featcache import *` brings every name, loaded only then."""
    code = "from featcache import *; print(callable(scan), callable(Embedder))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.split() == ["True", "True"]


@pytest.mark.parametrize(
    ("function", "command", "own"),
    [
        (featcache.extract, extract.extract, {"policy"}),
        (featcache.train_head, train_head.train_head, {"heads", "backbones"}),
        (featcache.finetune, finetune.finetune, {"policy"}),
        (featcache.explain, explain.explain, {"images", "methods", "files", "keep"}),
        (featcache.scan, scan.scan, {"fewest_classes"}),
        (featcache.audit, audit.audit, set()),
        (featcache.plan_parts, extract.extract, {"policy", "max_bad", "on"}),
    ],
)
def test_a_function_takes_the_options_of_its_command(function, command, own):
    """Names and defaults are the command's, groups taken apart; `help` shows them."""
    shown = inspect.signature(function).parameters
    for name, parameter in parameters(command).items():
        default = parameter.default is not inspect.Parameter.empty
        if default and name not in {*own, "reporter", "reports"}:
            assert shown[name].default == parameter.default, name


@pytest.mark.parametrize(
    "command",
    ["scan", "train-head", "finetune", "ensemble", "compare", "explain", "audit"],
)
def test_functions_have_the_words_of_the_commands(command):
    """Every option of a command is an argument of its function."""
    function = getattr(featcache, command.replace("-", "_"))
    words = {option.name for option in cli.cli.commands[command].params}
    of_the_door = {"as_json", "style", "html", "no_images", "confusion_of", "strict"}
    if command == "compare":
        of_the_door |= {"force"}  # for the page that --html writes
        of_the_door |= {"needed_by", "half_width", "detect"}  # Leaderboard.sample_size
    renamed = {"names", "reference"}  # here they are called backbones and run
    assert words - of_the_door - renamed <= {*inspect.signature(function).parameters}


def test_an_unknown_argument_is_refused_with_the_near_names(chest):
    """The error is Python's, and nothing is done before it."""
    with pytest.raises(TypeError, match=r"argument 'fold'. Did you mean 'folds'\?"):
        featcache.train_head(chest, fold=5)
    with pytest.raises(TypeError, match="argument 'view'"):
        chest.extract("pixels48", view=3)


@pytest.mark.parametrize("alone", [{"jobs": 0}, {"backbones": "vgg19"}])
def test_options_of_a_complete_audit_need_it(trained, alone):
    """They would be ignored; any number of processes is one."""
    with pytest.raises(UsageError, match="complete=True"):
        featcache.audit(trained, **alone)


# --- datasets ---------------------------------------------------------------------


def test_a_dataset_is_a_name_an_object_or_a_manifest(trained):
    """All three rank the same runs; text is taken where paths are."""
    folders = {
        "cache": str(trained.manifest.folder.parent),
        "reports": str(trained.reports),
    }
    boards = [
        trained.compare(),
        featcache.compare("chest", **folders),
        featcache.compare(**folders),
        featcache.compare(trained.manifest, reports=trained.reports),
        featcache.open("chest", **folders).compare(),
    ]
    first = boards[0].frame
    assert all(board.frame.equals(first) for board in boards)


def test_the_cache_of_the_environment_is_the_default(chest, tmp_path, monkeypatch):
    """`$FEATCACHE_CACHE` names the cache, as for the command line."""
    monkeypatch.setenv("FEATCACHE_CACHE", str(tmp_path / "cache"))
    assert featcache.open("chest").name == "chest"
    with pytest.raises(DatasetError, match="'lungs'"):
        featcache.open("lungs")


def test_features_are_those_of_load(chest):
    """`features` gives what `load` gives, by the name of a backbone."""
    X, y, groups, meta = chest.features("toy", views=1)
    same = featcache.load(chest.stores[0], views=1)
    assert (X == same.X).all()
    assert (y == same.y).all()
    assert (groups == same.groups).all()
    assert meta.equals(same.meta)
    write_store(chest.manifest, header("toy2"))
    with pytest.raises(UnknownNameError, match="one feature set"):
        chest.features()


def test_scan_gives_a_dataset(image_folder, tmp_path):
    """A scanned dataset knows its images, classes and folders, and shows itself."""
    made = featcache.scan(
        str(image_folder), cache=str(tmp_path / "cache"), group_by=r"(p\d{3})_"
    )
    assert made.classes == ["COVID", "NORMAL", "Viral Pneumonia"]
    assert len(made.frame) == len(made.paths) == 36
    assert "36" in made._repr_html_()


# --- heads ------------------------------------------------------------------------


def test_an_estimator_is_a_head(chest):
    """Its class and arguments are recorded, a copy is trained, and it is a head."""
    model = LogisticRegression(C=0.003, max_iter=300)
    (run,) = chest.train_heads(model, jobs=1)
    assert not hasattr(model, "coef_")
    text = "sklearn.linear_model:LogisticRegression(C=0.003, max_iter=300)"
    assert run.record.head == text
    assert run.score() > 0.5
    assert chest.train_heads(clone(model), jobs=1).new_ids == []
    other = chest.train_heads(clone(model).set_params(C=1.0), jobs=1)
    assert other.new_ids == [other[0].run_id] != [run.run_id]
    (again,) = featcache.train_head(chest, text, jobs=1)
    assert again.run_id == run.run_id


def test_an_estimator_of_estimators_comes_back_from_its_text():
    """Nested estimators, infinite numbers and tuples survive the way to text."""
    nested = make_pipeline(
        StandardScaler(with_mean=False), LogisticRegression(C=float("inf"))
    )
    text = estimators.to_text(nested)
    assert estimators.to_text(estimators.from_text(text)) == text
    assert "C=1e999" in text
    assert estimators.from_text("sklearn.svm:SVC(kernel='linear')").kernel == "linear"


def test_a_class_that_no_other_process_can_import_is_refused(chest):
    """A class of a notebook or a function cannot be recorded by its name."""

    class Inner(GaussianNB):
        """Only here."""

    for cls in (Inner, type("Shell", (GaussianNB,), {"__module__": "__main__"})):
        with pytest.raises(HeadError, match="other processes can import"):
            chest.train_heads(cls())
    assert estimators.to_text(Local()) == f"{__name__}:Local"


@pytest.mark.parametrize(
    "text",
    [
        "sklearn.svm:SVC(print())",
        "sklearn.svm:SVC(C=__import__('os').getcwd())",
        "os:system('true')",
        "sklearn.svm:SVC(**{'C': 1})",
        "sklearn.svm:SVC(C=[i for i in 'ab'])",
        "sklearn.svm:SVC(C=1",
    ],
)
def test_text_is_data_and_never_run(text):
    """Only classes of estimators are called, and only with values."""
    with pytest.raises(HeadError):
        estimators.from_text(text)


def test_an_argument_that_no_record_can_hold_is_refused():
    """A function among the arguments is named."""
    with pytest.raises(HeadError, match=r"builtins\.builtin_function"):
        estimators.to_text(LogisticRegression(class_weight=print))


# --- results ----------------------------------------------------------------------


def test_a_leaderboard_is_a_table_and_a_picture(trained):
    """Its frame, best run, markdown, LaTeX, HTML and page are of the same rows."""
    board = trained.compare()
    assert isinstance(board.frame, pd.DataFrame)
    assert board.frame["run_id"].tolist()[0] == board.best.run_id
    assert board.best.short_id in board.to_markdown()
    assert r"\toprule" in board.to_latex()
    assert board._repr_html_() == board.to_html()
    assert "<table>" in board.to_html()
    assert "baselines and controls" in board.to_html().lower()
    assert repr(board) == f"<Leaderboard of chest: {len(board.rows)} runs>"


@pytest.mark.slow
def test_a_leaderboard_writes_its_report(trained):
    """The page lies where the command puts it, or where it is asked for."""
    board = trained.compare()
    assert board.report() == trained.reports / "chest/report.html"
    path = board.report(str(trained.reports / "mine.html"))
    assert "<html" in path.read_text(encoding="utf-8")


def test_runs_show_their_accuracy_and_interval(trained):
    """A run's card names head, backbone, accuracy and its interval."""
    best = trained.compare().best
    page = best._repr_html_()
    for word in (
        "toy",
        best.record.head,
        f"{best.score():.3f}",
        "95 %",
        best.run_id,
    ):
        assert word in page
    assert len(trained.runs.frame) >= 3
    assert trained.runs[0].run_id in repr(trained.runs[0])
    assert best.confusion().train.sum() == len(best.predictions().y)


def test_an_ensemble_takes_runs(trained):
    """Members are runs, or words that name them."""
    members = [run for run in trained.runs if run.record.head != "majority"]
    (made,) = trained.ensemble(members)
    assert made.record.members == sorted(run.run_id for run in members)
    assert trained.ensemble([run.short_id for run in members]).new_ids == []


def test_an_audit_shows_its_findings(trained):
    """The card has a row for each check."""
    result = trained.audit()
    page = result._repr_html_()
    assert all(finding.code in page for finding in result.findings)
    assert result.frame["code"].tolist() == [one.code for one in result.findings]


def test_a_failed_run_says_why(trained):
    """The reason stands where the accuracy would be, and in the error."""
    failed = featcache.Run(
        trained.runs[0].folder,
        replace(trained.runs[0].record, status="failed", reason="no <room>", scores={}),
    )
    assert "no &lt;room&gt;" in failed._repr_html_()
    with pytest.raises(RunError, match="no <room>"):
        failed.score()
    assert featcache.Runs([failed], [])._repr_html_().count('class="bad"') == 1


def test_all_text_is_escaped(tmp_path):
    """Names of datasets, columns, cells, facts and pictures are text, never markup."""
    bad = "<script>&\"'"
    (tmp_path / "dot.png").write_bytes(b"")
    html = display.card(
        bad,
        display.table([(bad, False, [bad])]),
        display.facts([(bad, bad)]),
        display.tiles([(bad, bad, bad)]),
        display.note(bad),
        display.picture(tmp_path / "dot.png", bad),
    )
    assert "<script>" not in html
    assert html.count("&lt;script&gt;") == 11


def test_styles_stay_with_their_own_elements():
    """Each rule is about the card, and no rule about the notebook around it."""
    style = display._style().removeprefix("<style>").removesuffix("</style>")
    selectors = [rule.partition("{")[0] for rule in style.split("}") if rule.strip()]
    assert all(".featcache-out" in selector for selector in selectors)
    assert "--accent" in style


def test_a_study_is_run_from_its_file(image_folder, tmp_path):
    """Leaderboards and runs come with their faces; a second call makes nothing."""
    study = tmp_path / "small.toml"
    study.write_text(
        f'[dataset]\nsource = "{image_folder}"\ngroup_by = "image"\n'
        '[[extract]]\nbackbones = ["border"]\n[[train]]\nheads = ["majority"]\n'
    )
    folders = {"cache": tmp_path / "cache", "reports": str(tmp_path / "reports")}
    result = featcache.run_study(str(study), jobs=1, **folders)
    (board,) = result.boards
    assert board.best.run_id in result.new_run_ids
    assert isinstance(board, featcache.Leaderboard)
    assert featcache.run_study(study, jobs=1, **folders).new_run_ids == []


def test_phantoms_are_written_once(tmp_path):
    """The same call again returns the same table; another one needs another folder."""
    table = featcache.phantoms(tmp_path / "x", images=3, size=64)
    written = table.stat().st_mtime_ns
    assert featcache.phantoms(str(tmp_path / "x"), images=3, size=64) == table
    assert table.stat().st_mtime_ns == written
    with pytest.raises(DatasetError, match="is not empty"):
        featcache.phantoms(tmp_path / "x", images=4, size=64)


def test_the_doctor_shows_its_checks(tmp_path, monkeypatch):
    """A row for each check, with its fix."""
    monkeypatch.setattr("featcache.commands.doctor.int8_speedup", lambda: 2.0)
    checks = featcache.doctor(offline=True, cache=tmp_path, reports=str(tmp_path))
    page = checks._repr_html_()
    assert all(f"<td>{check.status}</td>" in page for check in checks)
    assert checks.frame["name"].tolist() == [check.name for check in checks]


# --- progress ---------------------------------------------------------------------


def test_progress_is_silent_where_no_one_looks(capsys, caplog):
    """Without a terminal or a notebook there is no bar; messages are logged."""
    for wanted in (None, False):
        with show(wanted) as shown, caplog.at_level("INFO", "featcache"):
            shown.progress("x", 1, 2)
            shown.message("a word")
    assert capsys.readouterr() == ("", "")
    assert caplog.messages == ["a word"] * 2


def test_progress_can_be_asked_for(capsys):
    """True draws a bar on stderr wherever it goes, and messages beside it."""
    with show(True) as shown:
        shown.progress("images", 1, 2)
        shown.message("a [word]")
    out, err = capsys.readouterr()
    assert out == ""
    assert "a [word]" in err
