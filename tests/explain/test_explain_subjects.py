"""What is explained: images and networks that have moved, and what is refused."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from records import CLASSES

from featcache.commands.explain import explained_images
from featcache.errors import (
    DatasetError,
    HeadError,
    RunError,
    StoreError,
    UnknownNameError,
    UsageError,
    WeightsError,
)
from featcache.evaluation import runs
from featcache.evaluation.runs import Run
from featcache.report.heatmaps import records, sheets


def test_errors_are_the_surest_and_show_both_classes(trained, look) -> None:
    """--errors takes wrong test predictions, most probable first, with both classes."""
    run = trained()
    table = explained_images.evaluated_rows(run)
    p = table.filter(regex="^p_").to_numpy()
    wrong = np.array(run.classes)[p.argmax(axis=1)] != table["label"]
    expected = table.assign(top=p.max(axis=1))[wrong].sort_values("top")["image_id"]
    result = look(run, errors=2)
    ids = list(dict.fromkeys(one.image.image_id for one in result.maps))
    assert ids == expected.tolist()[::-1][:2]
    for image_id in ids:
        labels = [m.label for m in result.maps if m.image.image_id == image_id]
        assert len(labels) == 2
        assert table.set_index("image_id").loc[image_id, "label"] == labels[1]


def test_without_a_test_part_it_is_told_that_the_head_saw_the_images(
    trained, look
) -> None:
    """Out-of-fold images were trained on by the saved head: a note says so."""
    run = trained()
    assert not any("trained on them" in note for note in look(run, per_class=1).notes)
    seen = run.table.loc[run.table["split"] == runs.TRAIN, "image_id"].iloc[0]
    result = look(run, images=[seen])
    assert result.maps[0].image.part == explained_images.TRAINED_ON
    assert any("trained on them" in note for note in result.notes)


def test_moved_images_are_found_by_their_content(
    trained, look, image_folder, tmp_path
) -> None:
    """Renamed below the root, or in another folder that is named: the same image."""
    run = trained()
    before = look(run, per_class=1).maps[0]
    old = image_folder / before.image.path
    old.rename(old.with_name("other name.png"))
    after = look(run, images=[before.image.image_id]).maps[0]
    assert after.image.path.endswith("other name.png")
    assert after.score == pytest.approx(before.score, rel=1e-6)
    shutil.move(image_folder, tmp_path / "elsewhere")
    with pytest.raises(DatasetError, match="now as `source`"):
        look(run, images=[before.image.image_id[:10]])
    again = look(
        run, images=[before.image.image_id[:10]], source=tmp_path / "elsewhere"
    )
    assert again.maps[0].score == pytest.approx(before.score, rel=1e-6)


def test_an_image_of_nobody_is_explained_and_told(trained, look, tmp_path) -> None:
    """A file that the manifest does not know has no label, and a note says so."""
    run = trained()
    Image.effect_noise((50, 40), 60).save(tmp_path / "new.png")
    result = look(run, images=[str(tmp_path / "new.png")])
    (one,) = result.maps
    assert (one.image.label, one.image.part) == ("", explained_images.UNKNOWN)
    assert one.map_sum == pytest.approx(one.score - one.base, abs=1e-4)
    assert any("do not belong to the run" in note for note in result.notes)
    with pytest.raises(UsageError, match="of='predicted'"):
        look(run, images=[str(tmp_path / "new.png")], of="true")
    (tmp_path / "text.png").write_text("no picture")
    for name in ("no such image", "text.png"):
        with pytest.raises(DatasetError):
            look(run, images=[str(tmp_path / name)])


def test_what_cannot_be_asked_is_refused(trained, look) -> None:
    """Contradictions and names of nothing are errors that say the way out."""
    run = trained()
    with pytest.raises(UsageError, match="one of them"):
        look(run, errors=1, per_class=1)
    with pytest.raises(UsageError, match="`per_class` of 1"):
        look(run, per_class=0)
    with pytest.raises(UnknownNameError, match="grad-cam"):
        look(run, methods=["gradcam"])
    with pytest.raises(UnknownNameError, match="NORMAL"):
        look(run, of="FLU")
    with pytest.raises(UsageError, match="`patch` from 1 to 32"):
        look(run, methods=["occlusion"], patch=33)
    with pytest.raises(UsageError, match="`activations`"):
        look(run, activations="no_such_layer")
    with pytest.raises(HeadError, match=r"`methods=\['auto'\]`"):
        look(run, methods=["treeshap"])
    with pytest.raises(DatasetError, match="`masks` with a column"):
        look(run, masks=["lungs"])


def test_a_run_whose_store_is_gone_says_what_to_extract(trained, look, dataset) -> None:
    """Another contract's store is not taken in its place."""
    run = trained()
    for path in (dataset.folder / "features").glob("*.h5"):
        path.unlink()
    with pytest.raises(
        StoreError, match=r"featcache extract --dataset chest -b .*toynet\.keras"
    ):
        look(run)


def test_a_network_is_known_by_its_bytes(
    trained, look, toy_network, tmp_path, monkeypatch
) -> None:
    """A file is found where the record or the user names it, or among the weights."""
    run = trained()
    assert look(run, files=[], per_class=1).maps
    records = list(tmp_path.rglob("extract-*.json"))
    assert records
    for record in records:
        record.unlink()
    with pytest.raises(WeightsError, match="in `files`"):
        look(run, files=[])
    other = tmp_path / "other.keras"
    other.write_bytes(toy_network.read_bytes() + b"x")
    with pytest.raises(WeightsError, match="1 candidate files"):
        look(run, files=[other])
    moved = tmp_path / "weights" / "renamed.keras"
    moved.parent.mkdir()
    shutil.copy(toy_network, moved)
    monkeypatch.setenv("FEATCACHE_WEIGHTS", str(moved.parent))
    assert look(run, files=[], per_class=1).maps


def test_runs_without_a_head_are_refused(trained, look) -> None:
    """Ensembles name their members; failed runs their reason."""
    run = trained()
    team = Run(run.folder, replace(run.record, features=[], members=["a-1", "b-2"]))
    with pytest.raises(RunError, match="members are: a-1, b-2"):
        look(team)
    failed = Run(run.folder, replace(run.record, status="failed", reason="no luck"))
    with pytest.raises(RunError, match="no luck"):
        look(failed)


@pytest.mark.slow
def test_labels_that_differ_in_signs_alone_have_files_of_their_own(
    trained, look, tmp_path
) -> None:
    """A picture for each map, and a sheet for each class, whatever the labels."""
    names = dict(zip(CLASSES, ("<50", ">50", "é" * 120), strict=True))
    result = look(trained(), per_class=1, of="all")
    relabelled = [
        replace(
            one,
            label=names[one.label],
            image=replace(one.image, label=names[one.image.label]),
        )
        for one in result.maps
    ]
    rows = sheets.write(replace(result, maps=relabelled), tmp_path)
    files = {file for row in rows for file in row["files"]}
    assert len(files) == 9 + 3
    assert all(Path(file).is_file() for file in files)
    assert len([s for s in records.load(tmp_path) if not s.is_mean]) == 3
