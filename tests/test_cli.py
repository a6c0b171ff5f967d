"""The command line: the main job end to end, formats, exit codes, error form."""

import csv
import io
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from toys import HEARS_CTRL_C

from featcache import cli
from featcache.cli import output
from featcache.commands.extract import pipeline

FIELDS = {
    *("rank", "run_id", "backbone", "weights", "head", "views", "n", "n_groups"),
    *("accuracy", "accuracy_low", "accuracy_high", "balanced_accuracy", "macro_f1"),
    *("auc", "log_loss", "test_accuracy", "test_accuracy_low"),
    *("test_accuracy_high", "fit_seconds"),
}


@pytest.fixture
def extracted(run, image_folder: Path, toy_network: Path) -> list[object]:
    """A set extracted with the toy network; returns the command."""
    command = ["extract", image_folder, "--group-by", r"(p\d{3})_", "-b", toy_network]
    code, out, err = run(*command, "--views", "1")
    assert code == 0, err
    assert "72 computed" in out
    return [*command, "--views", "1"]


def test_the_main_job(run, extracted) -> None:
    """extract, train-head, compare: each prints its result and exits with 0."""
    code, out, err = run("train-head", "-H", "logreg", "-H", "majority", "--jobs", "1")
    assert code == 0, err
    assert re.search(
        r"logreg-toynet-\w{10} \(toynet 32 px\): "
        r"accuracy [\d.]+ \([\d.]+-[\d.]+\), fit",
        out,
    )
    code, out, err = run("compare")
    assert code == 0, err
    assert "logreg" in out
    assert "out-of-fold on split regex-" in out


@pytest.mark.slow
def test_a_network_of_the_table_goes_the_same_way(run, image_folder: Path) -> None:
    """Built by Keras, converted and run by the default engine, ranked by name."""
    code, out, err = run(
        *("extract", image_folder, "--group-by", r"(p\d{3})_"),
        *("-b", "mobilenetv3small", "--weights", "random"),
    )
    assert code == 0, err
    assert "36 computed" in out
    code, _, err = run("train-head", "-H", "logreg", "--jobs", "1", "--no-tune")
    assert code == 0, err
    code, out, err = run("compare", "--json")
    assert code == 0, err
    (row,) = json.loads(out)
    assert (row["backbone"], row["weights"]) == ("mobilenetv3small", "random")


def test_a_second_time_all_is_there(run, extracted) -> None:
    """The same commands again say that nothing is left to do."""
    command = ["train-head", "-H", "majority", "--jobs", "1"]
    run(*command)
    code, out, _ = run(*extracted)
    assert (code, "all cached" in out) == (0, True)
    code, out, _ = run(*command)
    assert (code, "nothing to do" in out) == (0, True)


def test_every_format_tells_the_same(run, extracted) -> None:
    """JSON and CSV carry all fields, markdown and LaTeX the same accuracy."""
    run("train-head", "-H", "logreg", "-H", "majority", "--jobs", "1")
    boards = {
        style: run("compare", "--format", style)[1]
        for style in ("table", "json", "csv", "markdown", "latex")
    }
    rows = json.loads(boards["json"])
    assert [row["rank"] for row in rows] == [1, 2]
    assert set(rows[0]) >= FIELDS
    table = list(csv.DictReader(io.StringIO(boards["csv"])))
    assert [float(r["accuracy"]) for r in table] == [r["accuracy"] for r in rows]
    for style in ("table", "markdown", "latex"):
        assert f"{rows[0]['accuracy']:.3f}" in boards[style]
    assert r"\toprule" in boards["latex"]
    assert boards["markdown"].startswith("| # |")
    assert json.loads(run("compare", "--json")[1]) == rows


def test_results_go_to_stdout_as_json(run, extracted) -> None:
    """Every listing takes --json, and stdout holds nothing else."""
    stores = json.loads(run(*extracted, "--json")[1])
    assert stores[0]["rows"] == 72
    assert stores[0]["failures"] == []
    records = json.loads(
        run("train-head", "-H", "majority", "--jobs", "1", "--json")[1]
    )
    assert records[0]["status"] == "ok"
    matrix = json.loads(run("compare", "--confusion", "majority", "--json")[1])
    assert matrix["classes"] == ["COVID", "NORMAL", "Viral Pneumonia"]
    assert "sensitivity" in run("compare", "--confusion", "majority")[1]


def text_folder(folder: Path) -> None:
    for name in ("a", "b"):
        (folder / name).mkdir()
        (folder / name / "notes.txt").write_text("hello")


def one_class(folder: Path) -> None:
    (folder / "a").mkdir()
    Image.new("L", (8, 8)).save(folder / "a" / "1.png")


def one_image_a_class(folder: Path) -> None:
    for shade, name in enumerate(("a", "b")):
        (folder / name).mkdir()
        Image.new("L", (8, 8), 90 * shade).save(folder / name / "1.png")


def unreadable(folder: Path) -> None:
    for name in ("a", "b"):
        (folder / name).mkdir()
        (folder / name / "1.png").write_bytes(b"")


@pytest.mark.parametrize(
    ("fill", "said"),
    [
        (lambda folder: None, "no files in sub-folders"),
        (text_folder, r"2 \.txt files"),
        (one_class, "at least two classes"),
        (unreadable, "none readable"),
    ],
)
@pytest.mark.parametrize("command", ["scan", "extract"])
def test_a_source_that_cannot_serve(
    run, tmp_path: Path, toy_network: Path, fill, said: str, command: str
) -> None:
    """Exit 1, one line of expected, got and way out, no traceback, no cache."""
    source = tmp_path / "source"
    source.mkdir()
    fill(source)
    network = ["-b", toy_network] if command == "extract" else []
    code, out, err = run(command, source, *network)
    assert (code, out) == (1, "")
    assert re.fullmatch(r"Error: expected .*; got .*\n", err)
    assert re.search(said, err)
    assert not list(tmp_path.glob("cache/*/manifest.csv"))


def test_fewer_groups_than_folds(run, tmp_path: Path, toy_network: Path) -> None:
    """One image a class can be extracted, but not cross-validated."""
    source = tmp_path / "source"
    source.mkdir()
    one_image_a_class(source)
    assert run("extract", source, "-b", toy_network)[0] == 0
    code, _, err = run("train-head", "-H", "majority", "--jobs", "1")
    assert code == 1
    assert "--folds" in err


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["-b", "densnet121"], 1, "Did you mean densenet121"),
        (["-b", "densenet121,vgg19"], 1, "one by one"),
        (["-b", "densenet121", "--views", "-1"], 1, "--views from 0"),
        (["-b", "densenet121", "--views", "two"], 2, "--views"),
        (["-b", "densenet121", "--zoom", "0.5,1"], 1, "--zoom LO,HI with 1 <="),
        (["-b", "densenet121", "--brightness", "2"], 2, "pair of numbers"),
        (["-b", "missing.keras"], 1, "no such file: missing.keras"),
        ([], 2, "Missing option"),
    ],
)
def test_wrong_options_of_extract(
    run, image_folder: Path, arguments: list[str], code: int, said: str
) -> None:
    """Usage is exit 2, a domain error is exit 1; both say what to do."""
    got, _, err = run("extract", image_folder, *arguments, "--weights", "random")
    assert got == code, err
    assert said in err
    assert "Traceback" not in err


def test_without_weights_and_network(
    run, image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No silent fall-back: URL, MD5 and the ways out, exit 1, stdout empty."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    import socket

    def refuse(*_: object, **__: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr(socket, "create_connection", refuse)
    code, out, err = run("extract", image_folder, "-b", "vgg19")
    assert (code, out) == (1, "")
    for part in ("https://", "253f8cb515780f3b799900260a226db6", "--weights random"):
        assert part in err


def test_a_dataset_must_be_named_if_there_are_several(run, image_folder: Path) -> None:
    """With one dataset the name may be left out, with two it may not."""
    code, _, err = run("train-head")
    assert (code, "Run: featcache scan SOURCE" in err) == (1, True)
    run("scan", image_folder, "--dataset", "one")
    run("scan", image_folder, "--dataset", "two")
    code, _, err = run("train-head")
    assert code == 1
    assert "one, two" in err


def test_options_of_a_source_need_the_source(run, image_folder: Path) -> None:
    """--group-by without SOURCE would be ignored; it is refused instead."""
    run("scan", image_folder)
    code, _, err = run("extract", "-b", "vgg19", "--group-by", "image")
    assert code == 1
    assert "--pool need a SOURCE" in err


def test_ctrl_c_exits_with_130_and_says_how_to_go_on(
    run, image_folder: Path, toy_network: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Interrupted work is kept, and the line says so."""

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline, "run", interrupted)
    code, _, err = run("extract", image_folder, "-b", toy_network)
    assert code == 130
    assert "Finished work is kept: run the same command" in err


@pytest.mark.slow
def test_a_real_sigint_leaves_no_lock(
    image_folder: Path, toy_network: Path, tmp_path: Path
) -> None:
    """A process that gets Ctrl-C ends with 130 and without a lock file."""
    code = (
        f"{HEARS_CTRL_C}\n"
        "import time; from contextlib import nullcontext\n"
        "from featcache import cli; from featcache.cli import extract, output\n"
        "class Slow(output.Said):\n"
        "    def progress(self, *a): print('row', flush=True); time.sleep(0.2)\n"
        "extract.bars = lambda: nullcontext(Slow())\n"
        f"cli.main(['extract', {str(image_folder)!r}, '-b', {str(toy_network)!r}, "
        "'--batch-size', '4'])"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "row\n"
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Interrupted" in err
    assert not list(tmp_path.glob("cache/chest/features/*.lock"))
    assert list(tmp_path.glob("cache/chest/features/*.parts/*.h5"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_an_unwritable_cache_is_an_error(run, image_folder: Path) -> None:
    """Permissions are named; no traceback."""
    Path("cache").mkdir(mode=0o500)
    code, _, err = run("scan", image_folder)
    assert code == 1
    assert "Permission denied" in err


def test_a_file_where_the_cache_should_be(run, image_folder: Path) -> None:
    """A file in the folder's place is a usage error."""
    Path("cache").write_text("")
    code, _, err = run("scan", image_folder)
    assert (code, "--cache" in err) == (2, True)


def test_a_full_disk_is_one_line(
    run, image_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An OSError of any step is told with its file, not as a traceback."""
    from featcache.dataset import manifest

    def full(_: object) -> None:
        raise OSError(28, "No space left on device", "cache/chest/manifest.csv")

    monkeypatch.setattr(manifest, "save", full)
    code, _, err = run("scan", image_folder)
    assert code == 1
    path = "cache/chest/manifest.csv"
    assert err.startswith(f"Error: {path} could not be read or written")
    assert err.count("\n") == 1


def test_demo_data_only(run) -> None:
    """Writes a set that scan takes, with patients and masks, and stops."""
    code, out, err = run("demo", "--data-only", "set", "--images", "9")
    assert code == 0, err
    assert "9 phantoms" in out
    code, out, _ = run("scan", "set/metadata.csv", "--group-by", "patient", "--json")
    found = json.loads(out)
    assert found["classes"] == {"COVID": 3, "NORMAL": 3, "Viral Pneumonia": 3}
    code, _, err = run("demo", "--data-only", "set", "--images", "9")
    assert code == 1
    code, _, err = run("demo", "--data-only", "other", "--jobs", "1", "--cache", "c")
    assert code == 1
    assert err.startswith("Error: expected --data-only without options of the study")
    assert "got --jobs, --cache." in err
    assert not Path("other").exists()
    assert run("scan", "set", "--dataset", "again")[0] == 0


def test_bars_are_for_terminals(capsys: pytest.CaptureFixture[str]) -> None:
    """Into a file or a pipe no bar is drawn; the reporter still works."""
    with output.bars() as reporter:
        reporter.progress("scan", 1, 2)
        reporter.progress("scan", 2, 2)
    assert capsys.readouterr() == ("", "")


def test_version(run) -> None:
    """--version prints the installed version."""
    code, out, _ = run("--version")
    assert code == 0
    assert re.search(r"\d+\.\d+\.\d+", out)


def test_help_lists_every_command_under_its_stage(run) -> None:
    """The overview has each command once, below the stage where it is needed."""
    lines = run("--help")[1].splitlines()
    stages = [line.rstrip(":") for line in lines if re.fullmatch(r"[A-Z]\w+:", line)]
    assert stages == ["Options", *cli.STAGES]
    names = re.findall(r"^  ([a-z][\w-]+)  ", "\n".join(lines), re.MULTILINE)
    assert sorted(names) == sorted(cli.cli.commands)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_complete_commands_and_options(shell: str) -> None:
    """The documented line loads a script, which asks featcache for the words."""
    documents = Path(__file__).parents[1] / "docs/reference/commands.md"
    assert f"_FEATCACHE_COMPLETE={shell}_source featcache" in documents.read_text()
    code = "import sys; sys.argv = ['featcache']; from featcache import cli; cli.main()"
    for words, last, expected in (
        ("featcache tr", "tr", "train-head"),
        ("featcache train-head --vi", "--vi", "--views"),
    ):
        request = {
            "_FEATCACHE_COMPLETE": f"{shell}_complete",
            "COMP_WORDS": words,
            "COMP_CWORD": last if shell == "fish" else str(len(words.split()) - 1),
        }
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | request,
            capture_output=True,
            text=True,
        )
        assert expected in done.stdout
