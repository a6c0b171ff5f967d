"""Rules of the command ``featcache scan``: what it prints, and how it fails."""

import json
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.progress import Progress
from toys import picture

from featcache.cli import output
from featcache.core.command_lines import from_here

Run = Callable[..., tuple[int, str, str]]


def test_the_command_tells_what_it_found(image_folder: Path, run: Run) -> None:
    """Counts by class number on stdout, what is amiss on stderr, exit code 0."""
    covid = image_folder / "COVID"
    shutil.copy(covid / "p000_COVID (1).png", covid / "z copy.png")
    (covid / "z empty.png").touch()
    code, out, err = run("scan", image_folder, "--group-by", r"(p\d+)")
    assert code == 0
    assert "chest: 36 images in 18 groups (by (p\\d+)); 1 duplicate excluded" in out
    assert "1 unreadable" in out
    assert "COVID = 0 (12 images), NORMAL = 1 (12 images), Viral Pneumonia = 2" in out
    assert "Manifest: cache/chest/manifest.csv" in out
    assert err.splitlines() == [
        "Warning: 2 files have no group; each becomes a group of its own",
        "Unreadable: COVID/z empty.png: an empty file",
    ]


def test_the_command_speaks_json(image_folder: Path, run: Run) -> None:
    """Stdout is one JSON object and nothing else."""
    (image_folder / "COVID" / "bad.png").touch()
    code, out, _ = run(
        "scan", image_folder, "--dataset", "x", "--per-class", 4, "--json"
    )
    assert code == 0
    assert json.loads(out) == {
        "dataset": "x",
        "manifest": "cache/x/manifest.csv",
        "classes": {"COVID": 3, "NORMAL": 4, "Viral Pneumonia": 4},
        "groups": 11,
        "group_by": "near-duplicate",
        "split": {},
        "duplicates": 0,
        "unreadable": [{"path": "COVID/bad.png", "reason": "an empty file"}],
        "warnings": [],
    }


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["nowhere"], 1, "no such path: "),
        (["empty"], 1, "no files in sub-folders"),
        (["flat"], 1, "2 images directly in the folder"),
        (["words"], 1, "1 .md, 1 .txt files"),
        (["flat/a.png"], 1, "expected a CSV (UTF-8, commas)"),
        (["blank.csv"], 1, "No columns to parse"),
        (["junk.csv"], 1, "can't decode"),
        (["gone.csv"], 1, "missing: gone.png"),
        (["broken"], 1, "none readable"),
        (["chest/COVID"], 1, "images directly in the folder"),
        (["chest", "--group-by", "("], 1, "got (."),
        (["chest", "--per-class", "-1"], 1, "got -1"),
        (["chest", "--dataset", "a/b"], 1, "got 'a/b'"),
        (["chest", "--per-class", "many"], 2, "'many' is not a valid integer"),
        (["chest", "--on-conflict", "keep"], 2, "'keep' is not one of"),
        ([], 2, "Missing argument 'SOURCE'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_ends_in_one_line(
    run: Run,
    image_folder: Path,
    tmp_path: Path,
    arguments: list[str],
    code: int,
    said: str,
) -> None:
    """Exit code 1 with expected, got and way out, or 2 for usage; no traceback."""
    for name in ("empty", "flat", "words/A", "words/B", "broken/A", "broken/B"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("flat/a.png", "flat/b.png"):
        picture(1, 100).save(tmp_path / name)
    for name in ("words/A/x.txt", "words/B/x.md", "broken/A/x.png", "broken/B/y.png"):
        (tmp_path / name).write_text("words")
    (tmp_path / "blank.csv").touch()
    (tmp_path / "junk.csv").write_bytes(bytes(range(256)))
    (tmp_path / "gone.csv").write_text("path,label\ngone.png,A\nflat/a.png,B\n")
    found, out, err = run("scan", *arguments)
    assert (found, out) == (code, "")
    assert said in err
    assert "Traceback" not in err
    if code == 1:
        assert len(err.splitlines()) == 1
        assert err.startswith("Error: expected ")
    assert not list(tmp_path.glob("cache/*"))


@pytest.mark.parametrize(
    "option", [["--per-class", 0], ["--pool"], ["--group-by", "image"]]
)
def test_options_of_a_scan_need_a_source(
    image_folder: Path, run: Run, option: list[object]
) -> None:
    """Extract ignores none of them, not even a zero."""
    assert run("scan", image_folder)[0] == 0
    code, _, err = run("extract", "--dataset", "chest", "-b", "metadata", *option)
    assert code == 1
    assert "need a SOURCE" in err


def test_extract_takes_the_split_of_a_scanned_dataset(
    image_folder: Path, run: Run
) -> None:
    """`--split-by` without SOURCE names a column of the manifest, for this call."""
    rows = [
        f"{path},{path.parent.name},{'test' if number % 3 else 'train'}"
        for number, path in enumerate(sorted(image_folder.rglob("*.*")))
    ]
    Path("t.csv").write_text("\n".join(["path,label,part", *rows]))
    assert run("scan", "t.csv", "--dataset", "x", "--group-by", "image")[0] == 0
    words = ["extract", "--dataset", "x", "-b", "metadata", "--split-by"]
    code, _, err = run(*words, "part")
    assert (code, "give --split-by part in training" in err) == (0, True)
    assert "as scanned" not in err
    code, _, err = run(*words, "ward")
    assert (code, "split-by" in err) == (1, True)


def test_hidden_characters_are_spelled_out(tmp_path: Path, run: Run) -> None:
    """A label or path from elsewhere cannot write over what the terminal shows."""
    for i in range(4):
        picture(i, 100).save(tmp_path / f"{i}.png")
    (tmp_path / "x\u202e.png").touch()
    labels = ["A", "B\u202e", "A", "B\u202e"]
    lines = [f"{i}.png,{label}" for i, label in enumerate(labels)] + ["x\u202e.png,A"]
    (tmp_path / "t.csv").write_text("\n".join(["path,label", *lines]), "utf-8")
    code, out, err = run("scan", tmp_path / "t.csv", "--group-by", "image")
    assert code == 0
    assert "\u202e" not in out + err
    assert r"B\u202e = 1" in out
    assert r"Unreadable: x\u202e.png: an empty file" in err


def test_each_command_names_the_next(image_folder: Path, run: Run) -> None:
    """Scan names extract and extract train-head, with the folder of the cache."""
    where = ("--dataset", "my chest", "--cache", "its cache")
    _, out, _ = run("scan", image_folder, *where)
    expected = "featcache extract --cache 'its cache' --dataset 'my chest' -b baselines"
    assert f"Next: {expected} (" in out
    code, out, _ = run(*shlex.split(expected)[1:])
    assert code == 0
    after = "featcache train-head --cache 'its cache' --dataset 'my chest'"
    assert f"Next: {after}\n" in out


def test_warnings_of_a_scan_are_not_repeated(image_folder: Path, run: Run) -> None:
    """Extract counts what the last scan said, unless the source has changed."""
    (image_folder / "COVID" / "z empty.png").touch()
    said = run("scan", image_folder)[2].splitlines()
    assert len(said) == 1
    extract = ("extract", image_folder, "-b", "metadata")
    _, _, err = run(*extract)
    expected = f"featcache scan {shlex.quote(from_here(image_folder))}"
    assert f"1 warning is as in the last scan. To see: {expected}\n" in err
    assert said[0] not in err
    (image_folder / "COVID" / "y empty.png").touch()
    _, _, err = run(*extract)
    assert said[0] in err


def test_the_rate_is_that_of_this_call() -> None:
    """What an earlier call has done counts for the bar, and not for its speed."""
    clock = [0.0]
    drawing = Progress(get_time=lambda: clock[0], disable=True)
    reporter = output.Bars(drawing)
    for now, done, rate in ((0, 9000, ""), (20, 9800, "40/s"), (45, 9900, "20/s")):
        clock[0] = now
        reporter.progress("scan", done, 10000)
        [task] = drawing.tasks
        assert (task.completed, task.fields["rate"]) == (done, rate)
    assert task.time_remaining == 25  # at the speed of the last half minute
    reporter.progress("fits", 0, 9)
    clock[0] += 4
    reporter.progress("fits", 6, 9)
    assert drawing.tasks[1].fields["rate"] == "1.5/s"
