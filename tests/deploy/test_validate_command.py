"""featcache validate, as a user types it."""

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image
from toys import CLASSES, picture, slow_but

from featcache.commands.bundle import make_bundle
from featcache.core.checked import read_record
from featcache.evaluation import references
from featcache.evaluation.external import read_validations
from featcache.evaluation.runs import TRAIN

KEYS = {
    "n", "n_groups", "excluded_overlap", "as_found", "prevalence_corrected",
    "recalibrated", "difference", "subgroups", "refused_share",
}  # fmt: skip


@pytest.fixture
def short_id(trained, extracted, reports, tmp_path):
    """A run, with its cache and reports in the folder that commands run in."""
    made = trained("logreg", views=0)
    shutil.copytree(extracted.folder.parent, tmp_path / "cache")
    shutil.copytree(reports, tmp_path / "reports")
    return made.short_id


@pytest.fixture
def backbone(toy_network):
    """The option that names the network's file."""
    return ["-b", toy_network]


def write_external(folder: Path, names=CLASSES, each: int = 6) -> Path:
    """Images like those of training, patients of two images, and their sex."""
    folder.mkdir()
    lines = ["path,label,patient,sex"]
    for label, name in enumerate(names):
        for i in range(each):
            file = f"{label}-{i}.png"
            picture(1000 + 100 * label + i, 60 + 60 * label).save(folder / file)
            lines.append(f"{file},{name},q{label}{i // 2},{'FM'[i // 2 % 2]}")
    (folder / "metadata.csv").write_text("\n".join(lines))
    return folder


def kept() -> list[Path]:
    return sorted(Path("reports").glob("*/validations/*"))


def test_a_run_on_images_from_elsewhere(run, short_id, backbone):
    """JSON on stdout with the keys of the document, and a record that is checked."""
    write_external(Path("other"))
    words = [short_id, "other", "--group-by", "patient", "--by", "sex", "--json"]
    code, out, err = run("validate", *words, *backbone)
    assert code == 0, err
    record = json.loads(out)
    assert set(record) >= KEYS
    assert (record["n"], record["n_groups"], record["group_by"]) == (18, 9, "patient")
    for name in ("accuracy", "auc", "log_loss"):
        assert {"value", "low", "high"} <= set(record["as_found"][name])
    assert record["excluded_overlap"]["near_duplicates_checked"]
    assert [one["column"] for one in record["subgroups"]] == ["sex"]
    assert record["difference"]["accuracy"]["low"] is not None
    (path,) = kept()
    assert path.name == f"other-{short_id}.json"
    assert read_record(path)["result"] == record
    (one,), unusable = read_validations(path.parents[1])
    assert (one.result.to_json(), unusable) == (record, [])
    # It is scanned now, and the run's own dataset is still the one with runs.
    assert references.dataset_of(Path("reports")) == "chest"
    code, out, _ = run("validate", short_id, "other", "--json", *backbone)
    assert (code, json.loads(out)["as_found"]) == (0, record["as_found"])


def test_planted_overlap_is_listed_and_left_out(run, short_id, backbone, extracted):
    """Same bytes, the same picture in another file, and the rest of both patients."""
    folder = write_external(Path("other"))
    same, near = extracted.ok.iloc[[0, 20]]["path"]
    table = (folder / "metadata.csv").read_text()
    shutil.copy(extracted.root / same, folder / "a.png")
    Image.open(extracted.root / near).save(folder / "b.bmp")
    (folder / "metadata.csv").write_text(
        f"{table}\na.png,{CLASSES[0]},q00,F\nb.bmp,{CLASSES[1]},new,M\n"
    )
    words = [short_id, "other", "--group-by", "patient"]
    code, out, err = run("validate", *words, "--json", *backbone)
    assert code == 0, err
    overlap = json.loads(out)["excluded_overlap"]
    training = trained_paths(short_id)
    expected = {"a.png": "identical"} if same in training else {}
    expected |= {"b.bmp": "near-duplicate"} if near in training else {}
    by_path = {one["path"]: one["how"] for one in overlap["images"]}
    assert expected
    assert {k: v for k, v in by_path.items() if v != "group"} == expected
    groups = {path for path, how in by_path.items() if how == "group"}
    assert groups == ({"0-0.png", "0-1.png"} if same in training else set())
    out = run("validate", *words, *backbone)[1]
    assert all(f"{path}: {how}" in out for path, how in expected.items())


def trained_paths(short_id: str) -> set[str]:
    """Paths of the images that a run was trained on."""
    from featcache.dataset import manifest
    from featcache.evaluation import references

    table = references.find(Path("reports/chest"), short_id).table
    ids = table.loc[table["split"] == TRAIN, "image_id"]
    ok = manifest.load(Path("cache/chest")).ok
    return set(ok.loc[ok["image_id"].isin(ids), "path"])


def test_the_tables(run, short_id, backbone):
    """The columns side by side, operating points, prevalences and subgroups."""
    names = ["COVID positive", CLASSES[1], CLASSES[2]]
    write_external(Path("other"), names)
    words = [short_id, Path("other/metadata.csv"), "--name", "Granada 2"]
    words += ["--map", f"COVID positive={CLASSES[0]}", "--group-by", "patient"]
    code, out, err = run("validate", *words, "--by", "sex", *backbone)
    assert code == 0, err
    for text in (
        "Granada 2: 18 images in 9 groups (by patient). None was in training.",
        "prevalence corrected", "as found - internal", "sensitivity - internal",
        "estimated without labels", "heterogeneity", "Share refused: ",
    ):  # fmt: skip
        assert text in out
    assert "Saved: " in err
    code, _, err = run("validate", short_id, "Granada 2", "-o", "no.txt", *backbone)
    assert (code, "--output a file in a folder that exists, in .json" in err) == (
        1,
        True,
    )
    words = [short_id, "Granada 2", "--map", f"COVID positive={CLASSES[0]}"]
    code, out, err = run("validate", *words, "-o", "a.json", "--json", *backbone)
    assert (code, "Written: a.json" in err) == (0, True)
    assert json.loads(Path("a.json").read_text()) == json.loads(out)
    assert Path("cache/Granada 2/manifest.csv").is_file()


@pytest.mark.parametrize(
    ("names", "words", "message"),
    [
        ([*CLASSES[:2], "Pneumonia-Viral"], [], "--map 'Pneumonia-Viral=Viral"),
        (["covid", *CLASSES[1:]], [], "--map covid=COVID"),
        (CLASSES, ["--map", "covid=COVID"], "Did you mean COVID?"),
        (["x", *CLASSES[1:]], ["--map", "x=Covid"], "Did you mean COVID?"),
        (CLASSES, ["--map", "COVID"], "--map LABEL=CLASS"),
        (CLASSES, ["--map", "x=a", "--map", "x=b"], "one class for the label 'x'"),
        (CLASSES, ["--by", "Sex"], "Did you mean sex?"),
        (CLASSES, ["--name", "chest"], "that of the run's own dataset"),
        (CLASSES, ["--exclude", "sex=X"], "--exclude"),
    ],
)
def test_a_wrong_call_is_one_line(
    names, words, message, run, short_id, backbone
) -> None:
    """It offers what is nearest; exit code 1; no record is kept."""
    write_external(Path("other"), names)
    code, out, err = run("validate", short_id, "other", *words, *backbone)
    assert (code, out) == (1, ""), err
    assert message in err.splitlines()[-1]
    assert kept() == []


def test_a_dataset_that_is_scanned_already_takes_no_options(run, short_id, backbone):
    """They would need the source; and a source that is not there is named."""
    write_external(Path("other"))
    assert run("scan", "other", "--dataset", "seen")[0] == 0
    code, _, err = run("validate", short_id, "seen", "--group-by", "sex", *backbone)
    assert (code, "a path as SOURCE" in err) == (1, True)
    code, _, err = run("validate", short_id, "nowhere", *backbone)
    assert (code, err.count("\n")) == (1, 1)
    assert "nowhere" in err
    assert not Path("cache/nowhere").exists()


def test_a_name_is_not_taken_from_another_source(run, short_id, backbone, tmp_path):
    """A folder of that name elsewhere needs one of its own; so does the training's."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    write_external(tmp_path / "a" / "other")
    write_external(tmp_path / "b" / "other")
    assert run("scan", "a/other")[0] == 0
    before = Path("cache/other/manifest.csv").read_bytes()
    code, _, err = run("validate", short_id, "b/other", *backbone)
    assert (code, "with --name" in err) == (1, True), err
    write_external(tmp_path / "chest")
    code, _, err = run("validate", short_id, "chest", *backbone)
    assert (code, "with --name" in err) == (1, True), err
    assert Path("cache/other/manifest.csv").read_bytes() == before


@pytest.mark.parametrize(
    "case", slow_but(["one class", "no groups", "three images"], "one class")
)
def test_poor_sets_are_answered(case, run, short_id, backbone):
    """With reasons where a figure cannot be."""
    folder = write_external(Path("other"), each=6 if case != "three images" else 1)
    table = folder / "metadata.csv"
    if case == "one class":
        rows = [r for r in table.read_text().splitlines() if f",{CLASSES[0]}," in r]
        table.write_text("\n".join(["path,label,patient,sex", *rows]))
    by = "image" if case == "no groups" else "patient"
    words = [short_id, "other", "--group-by", by, "--by", "sex", *backbone]
    code, out, err = run("validate", *words)
    assert code == 0, err
    assert "nan" not in out
    record = json.loads(run("validate", *words, "--json")[1])
    assert record["as_found"]["accuracy"]["value"] is not None
    if case == "one class":
        assert record["as_found"]["auc"]["reason"] == "one class has no AUC"
        assert record["recalibrated"]["reason"] in out
    if case == "three images":
        assert record["n"] == 3
        assert record["recalibrated"]["scores"] is None
    if case == "no groups":
        assert record["n_groups"] == record["n"] == 18


def test_a_dataset_that_was_in_training(run, short_id, backbone, extracted):
    """Nothing is left to score: an error, and no record."""
    training = sorted(trained_paths(short_id))[:4]
    for path in training:
        label = path.split("/")[0]
        Path("other", label).mkdir(parents=True, exist_ok=True)
        shutil.copy(extracted.root / path, Path("other") / path)
    code, _, err = run("validate", short_id, "other", *backbone)
    assert code == 1
    assert "was in training" in err.splitlines()[-1]
    assert kept() == []


def test_the_own_test_set_is_internal(run, short_id, backbone, extracted, trained):
    """Under its own name, or scanned under another; of a run as of its bundle."""
    code, out, err = run("validate", short_id, "chest", *backbone)
    assert code == 0, err
    made = trained("logreg", views=0)
    make_bundle(extracted, made, Path("model.fcb"))
    scan = ["--name", "check", "--group-by", r"(p\d{3})_"]
    again = run("validate", "model.fcb", extracted.root, *scan)
    assert again[0] == 0, again[2]
    n = len(made.table[made.table["split"] != TRAIN])
    words = f"{n} of the {n} images are of the model's own dataset"
    for text in (out, err, again[1], again[2]):
        assert words in text
        assert "this validation is internal" in text
    records, _ = read_validations(Path("reports/chest"))
    owns = [one.result.own for one in records]
    assert [(own.identical, own.same_group) for own in owns] == [(n, 0)] * 2


def test_a_bundle(run, trained, extracted, tmp_path):
    """It needs no cache of its training, and no picture to know near-duplicates."""
    made = trained("logreg", views=0)
    make_bundle(extracted, made, tmp_path / "model.fcb")
    folder = write_external(Path("other"))
    known = made.table.loc[made.table["split"] == TRAIN, "image_id"]
    near = extracted.ok.set_index("image_id")["path"][known.iloc[0]]
    Image.open(extracted.root / near).save(folder / "b.bmp")
    table = (folder / "metadata.csv").read_text()
    (folder / "metadata.csv").write_text(f"{table}\nb.bmp,{CLASSES[1]},new,M\n")
    words = ["model.fcb", "other", "--group-by", "patient"]
    code, out, err = run("validate", *words)
    assert code == 0, err
    assert "b.bmp: near-duplicate of training image" in out
    (path,) = kept()
    assert path.parts[1:] == ("chest", "validations", f"other-{made.short_id}.json")
    record = read_record(path)
    assert (record["run_id"], len(record["bundle_sha256"])) == (made.run_id, 64)


def test_other_images_are_counted_as_refused(run, short_id, backbone):
    """They stay in the figures, and there are figures without them."""
    folder = write_external(Path("other"))
    for i in range(3):
        Image.new("RGB", (200, 20), (255, 60 * i, 0)).save(folder / f"0-{i}.png")
    words = [short_id, "other", "--group-by", "patient", "--json", *backbone]
    record = json.loads(run("validate", *words)[1])
    assert record["refused_share"]["value"] >= 3 / 18
    assert record["without_refused"]["n"] <= 15
    assert record["as_found"]["n"] == 18
