"""Rules of grouping: what a scan puts together, and what it refuses to."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageEnhance
from test_scan import column, groups, save
from toys import picture

from featcache.commands.scan import scan, thumbs
from featcache.dataset import images, manifest
from featcache.dataset.near_duplicates import unit
from featcache.errors import DatasetError


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def patients(tmp_path: Path) -> Path:
    """A CSV of six images: four of two patients, two of nobody."""
    root = save(tmp_path / "s", A_a=1, A_b=2, A_c=3, B_d=4, B_e=5, B_f=6)
    names = sorted(p.relative_to(root).as_posix() for p in root.glob("*/*.png"))
    table = pd.DataFrame({"path": names, "label": [n[0] for n in names]})
    table["patient"] = ["p1", "p2 ", "", "p1", "p2", " "]
    table.to_csv(root / "table.csv", index=False)
    return root / "table.csv"


def test_a_column_groups(patients: Path, cache: Path) -> None:
    """Equal values are one group; who has none is a group alone, and is told."""
    result = scan(patients, cache, group_by="patient")
    assert groups(result) == [
        {"A/a.png", "B/d.png"},
        {"A/b.png", "B/e.png"},
        {"A/c.png"},
        {"B/f.png"},
    ]
    assert column(result, "patient")["A/b.png"] == "p2 "
    [warning] = result.warnings
    assert warning == "2 files have no group; each becomes a group of its own"


def test_a_column_called_group_is_the_default(patients: Path, cache: Path) -> None:
    """Without a wish the column group decides, and is no longer a column of its own."""
    table = pd.read_csv(patients, dtype=str).rename(columns={"patient": "group"})
    table.to_csv(patients, index=False)
    result = scan(patients, cache)
    assert result.manifest.settings.group_by == "group"
    assert column(result, "group")["B/d.png"] == "p1"
    assert list(result.manifest.table.columns) == list(manifest.COLUMNS)


@pytest.mark.parametrize("pattern", [r"p(\d+)_", r"(?P<patient>p\d\d\d)", r"^([^_]*)"])
def test_an_expression_groups_by_the_file_name(
    image_folder: Path, cache: Path, pattern: str
) -> None:
    """p000_COVID (1).png and p000_COVID (2).png are one patient."""
    result = scan(image_folder, cache, group_by=pattern)
    assert result.n_groups == 18
    assert groups(result)[0] == {f"COVID/p000_COVID ({i}).png" for i in (1, 2)}


def test_an_expression_that_finds_nothing_in_a_name_groups_nothing(
    tmp_path: Path, cache: Path
) -> None:
    """No match, an empty one, and a part left out: each file is alone."""
    source = save(tmp_path / "s", A_p1_a=1, A_p1_b=2, A_x=3, B_y=4, B_p=5)
    result = scan(source, cache, group_by=r"^p(\d*)")
    assert len(groups(result)) == 4
    assert {"A/p1_a.png", "A/p1_b.png"} in groups(result)
    assert result.warnings == ["3 files have no group; each becomes a group of its own"]


@pytest.mark.parametrize("top", ["", "train/"])
def test_an_expression_that_fits_no_name_is_searched_in_the_folders(
    tmp_path: Path, cache: Path, top: str
) -> None:
    """Below the class folder: as CheXpert has them, one folder a patient."""
    for i in range(8):
        folder = tmp_path / f"s/{top}{'AB'[i % 2]}/patient{i // 2:03d}/study1"
        folder.mkdir(parents=True, exist_ok=True)
        picture(i, 100).save(folder / "view1_frontal.png")
    options = {"pool": True} if top else {}
    if top:
        shutil.copytree(tmp_path / "s/train", tmp_path / "s/test")
    result = scan(tmp_path / "s", cache, group_by=r"(patient\d+)", **options)
    assert result.n_groups == 4
    assert set(column(result, "group").values()) == {
        f"patient{i:03d}" for i in range(4)
    }


def test_an_expression_that_fits_nothing_says_where_it_looked(
    tmp_path: Path, cache: Path
) -> None:
    """File names and the folders below the class folder; the class is no group."""
    source = save(tmp_path / "s", A_x=1, A_y=2, B_z=3)
    with pytest.raises(DatasetError, match=r"file name or folder of any file, e.g. x"):
        scan(source, cache, group_by="([AB])")


def test_each_image_may_be_its_own_group(image_folder: Path, cache: Path) -> None:
    """With image the group is the image's id."""
    table = scan(image_folder, cache, group_by="image").manifest.table
    assert (table["group"] == table["image_id"]).all()


def test_near_duplicates_are_one_group_by_default(tmp_path: Path, cache: Path) -> None:
    """A resized, a brightened and a re-encoded copy join their twin; others do not."""
    root = tmp_path / "s"
    twin = picture(1, 120, (400, 320))
    save(root, A_a=twin, A_b=twin.resize((150, 120)), B_x=picture(2, 120), B_y=3)
    save(root, A_c=ImageEnhance.Brightness(twin).enhance(0.8), A_f=twin.transpose(0))
    twin.convert("RGB").save(root / "A" / "e.jpg", quality=60)
    for name in "pq":
        Image.new("L", (20, 20), 90).resize((20 + (name == "q"), 20)).save(
            root / "B" / f"blank {name}.png"
        )
    result = scan(root, cache)
    assert result.manifest.settings.group_by == "near-duplicate"
    assert groups(result)[0] == {"A/a.png", "A/b.png", "A/c.png", "A/e.jpg"}
    assert all(len(group) == 1 for group in groups(result)[1:])
    first = column(result, "image_id")["A/a.png"]
    assert column(result, "group")["A/e.jpg"] == first


def test_near_duplicates_chain(tmp_path: Path, cache: Path) -> None:
    """A like B and B like C puts the three together, though A is unlike C."""
    ramp = np.add.outer(np.zeros(32), np.linspace(0, 200, 32))
    bump = np.outer(np.hanning(32), np.hanning(32))
    chain = {
        f"A_{name}": Image.fromarray((ramp + share * bump).astype(np.uint8))
        for name, share in (("a", 0), ("b", 20), ("c", 40))
    }
    small = [images.inspect(_bytes(image, tmp_path)).thumb for image in chain.values()]
    near = unit(np.stack(small)) @ unit(np.stack(small)).T > 0.99
    assert near.tolist() == [[True, True, False], [True] * 3, [False, True, True]]
    result = scan(save(tmp_path / "s", B_x=1, **chain), cache)
    assert {"A/a.png", "A/b.png", "A/c.png"} in groups(result)


def test_one_shade_is_like_nothing() -> None:
    """A blank picture correlates with no other, itself included."""
    assert not unit(np.full((2, 1024), 77, np.uint8)).any()


def kept(folder: Path) -> dict[str, np.ndarray]:
    """The small pictures of a dataset; there are some."""
    found = thumbs.load(folder)
    assert found
    return found


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def another_program(path: Path) -> None:
    path.write_text("thumbs")


def edited(path: Path) -> None:
    """The picture of an image is exchanged for another's."""
    with np.load(path) as file:
        content = dict(file)
    content["thumb"] = content["thumb"][::-1]
    np.savez_compressed(path, **content)


def array(path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, np.zeros(3))


def objects(path: Path) -> None:
    """Loading these would run a pickle."""
    np.savez(path, image_id=np.array([{}]), thumb=np.array([{}]), digest="x")


@pytest.mark.parametrize(
    "spoil", [cut, another_program, edited, array, objects, Path.unlink]
)
def test_small_pictures_are_not_trusted_blindly(
    image_folder: Path, cache: Path, spoil: Callable[[Path], None]
) -> None:
    """What is damaged, edited or gone is decoded again; the groups are the same."""
    first = scan(image_folder, cache)
    spoil(cache / "chest" / thumbs.FILE)
    assert thumbs.load(cache / "chest") == {}
    picture(999, 50).save(image_folder / "COVID" / "new.png")
    assert scan(image_folder, cache).n_new == 37
    assert len(kept(cache / "chest")) == 37
    picture(998, 50).save(image_folder / "COVID" / "newer.png")
    result = scan(image_folder, cache)
    assert (result.n_new, result.n_groups) == (1, first.n_groups + 2)


def test_small_pictures_are_those_of_the_manifest(
    image_folder: Path, cache: Path
) -> None:
    """1 KiB an image, kept by id; those of images that left go with the next."""
    scan(image_folder, cache)
    before = kept(cache / "chest")
    (image_folder / "COVID" / "p000_COVID (1).png").unlink()
    picture(999, 50).save(image_folder / "COVID" / "new.png")
    table = scan(image_folder, cache).manifest.table
    after = kept(cache / "chest")
    assert set(after) == set(table["image_id"])
    assert len(set(after) - set(before)) == len(set(before) - set(after)) == 1
    assert all(small.nbytes == 1024 for small in after.values())


def test_another_decoder_makes_small_pictures_anew(
    image_folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pictures that were decoded by other rules are not compared with new ones."""
    scan(image_folder, cache)
    monkeypatch.setattr(thumbs, "DECODER_VERSION", images.DECODER_VERSION + 1)
    assert thumbs.load(cache / "chest") == {}


def _bytes(image: Image.Image, folder: Path) -> bytes:
    image.save(folder / "x.png")
    return (folder / "x.png").read_bytes()


def test_a_copy_passes_its_group_on(patients: Path, cache: Path) -> None:
    """The kept of two same files takes the group that only the other names."""
    root = patients.parent
    shutil.copy(root / "B" / "d.png", root / "B" / "f.png")
    shutil.copy(root / "A" / "b.png", root / "A" / "c.png")
    text = patients.read_text().replace("B/d.png,B,p1", "B/d.png,B,")
    patients.write_text(text.replace("B/f.png,B, ", "B/f.png,B,p1"))
    result = scan(patients, cache, group_by="patient")
    assert column(result, "status")["B/f.png"] == "duplicate"
    assert column(result, "group")["B/d.png"] == "p1"


def test_one_picture_in_two_groups_is_told(patients: Path, cache: Path) -> None:
    """Two patients cannot share a picture: one of them is the other."""
    root = patients.parent
    shutil.copy(root / "A" / "a.png", root / "A" / "b.png")
    (root / "A" / "c.png").write_bytes(b"")
    (root / "B" / "d.png").write_bytes(b"")
    result = scan(patients, cache, group_by="patient")
    assert "the same bytes under two groups: A/a.png, A/b.png" in result.warnings


@pytest.mark.parametrize(
    ("wish", "way_out"),
    [
        ("p", "give an expression"),
        (r"(\d)(\d)", "give an expression"),
        ("(", "give an expression"),
        ("nobody", "give an expression"),
        (r"z(\d{9})", "Correct the column or the expression"),
        ("blank", "Correct the column or the expression"),
    ],
    ids=["no group", "two groups", "invalid", "no column", "no match", "no value"],
)
def test_a_grouping_that_cannot_work_is_refused(
    patients: Path, cache: Path, wish: str, way_out: str
) -> None:
    """The error shows the wish, and an example or the columns that there are."""
    text = patients.read_text().splitlines()
    patients.write_text("\n".join([text[0] + ",blank", *(f"{t}," for t in text[1:])]))
    with pytest.raises(DatasetError) as caught:
        scan(patients, cache, group_by=wish)
    assert wish in str(caught.value)
    assert way_out in caught.value.hint
    if "write" in way_out:
        assert "columns: patient, blank" in caught.value.expected


def test_a_column_beside_the_folder_is_pointed_to(patients: Path, cache: Path) -> None:
    """Who asks a folder for a column is told of the metadata.csv in it."""
    patients.rename(patients.with_name("metadata.csv"))
    with pytest.raises(DatasetError, match=r"scan .*/s/metadata\.csv"):
        scan(patients.parent, cache, group_by="patient")
