"""Answers: one per image in order, whatever the images are, with flat memory."""

import gc
import io
import threading
import time
import weakref
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from toy_model import ToyModel
from toys import slow_but

from featcache.dataset import images
from featcache.dataset.sources.inputs import InputImage, Inputs, open_inputs
from featcache.deploy import answers
from featcache.deploy.answers import Answer, Scored, stream
from featcache.deploy.model import Candidate
from featcache.deploy.patients import Grouping, PatientAnswers
from featcache.errors import DatasetError, StoreError, UsageError


def png(shade: int, side: int = 4) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (side, side), shade).save(buffer, "PNG")
    return buffer.getvalue()


def image(name: str, data: bytes, **columns: str) -> InputImage:
    return InputImage(name, lambda: data, columns, below=name)


def shades(*values: int) -> list[InputImage]:
    return [image(f"{value}.png", png(value)) for value in values]


def fail(error: BaseException) -> bytes:
    raise error


# One answer per image


def test_answers_are_those_of_the_model(model: ToyModel) -> None:
    """In order: probabilities, the likeliest class, flags, scores, the nearest."""
    bright, dark = stream(model, shades(204, 51))
    assert np.allclose(bright.p, [0.8, 0.2])
    assert np.allclose(dark.p, [0.2, 0.8])
    assert (bright.label, dark.label) == ("bright", "dark")
    assert (bright.flags["bright_at_95"], dark.flags["bright_at_95"]) == (True, False)
    zones = [one.zones["zone_bright"] for one in (bright, dark)]
    assert zones == ["ruled in", "ruled out"]
    assert (bright.scores, dark.scores) == ({"distance": 51}, {"distance": 204})
    assert bright.nearest == ("f" * 64, "dark", 0.25)
    assert (bright.status, bright.reason, bright.path) == ("ok", "", "204.png")
    assert bright.image_id == images.content_id(png(204))


@pytest.mark.parametrize("refuse", [True, False])
def test_a_refused_image_has_no_class_unless_it_is_wanted(
    model: ToyModel, refuse: bool
) -> None:
    """Its scores and the nearest image are there; it is marked in any case."""
    (dark,) = stream(model, shades(20), refuse=refuse)
    assert (dark.status, dark.reason) == ("refused", "too dark")
    assert dark.scores == {"distance": 235}
    assert dark.nearest
    assert (dark.label, dark.p is None, dark.flags) == (
        ("", True, {}) if refuse else ("dark", False, {"bright_at_95": False})
    )


UNREADABLE = {
    "text": (lambda: b"no image", "none of AVIF, BMP"),
    "empty": (lambda: b"", "an empty file"),
    "cut": (lambda: png(9, 64)[:60], ""),
    "gone": (partial(fail, FileNotFoundError(2, "No such file")), "No such file"),
    "forbidden": (partial(fail, PermissionError(13, "Permission denied")), "denied"),
    "memory": (partial(fail, MemoryError()), "out of memory"),
    "nul": (partial(fail, ValueError("embedded null byte")), "null byte"),
}


@pytest.mark.parametrize("kind", UNREADABLE)
def test_what_cannot_be_read_does_not_stop_the_others(
    model: ToyModel, kind: str
) -> None:
    """It has a reason in one line; the model never sees it."""
    read, reason = UNREADABLE[kind]
    inputs = [*shades(100), InputImage("x.png", read), *shades(150)]
    before, bad, after = stream(model, inputs)
    assert (before.status, bad.status, after.status) == ("ok", "unreadable", "ok")
    assert reason in bad.reason
    assert bad.reason.isprintable()
    assert bad.p is None
    assert model.batches == [2]


def test_without_a_readable_image_the_model_is_not_called(model: ToyModel) -> None:
    """As without any image."""
    assert [a.status for a in stream(model, [image("x", b"x")])] == ["unreadable"]
    assert list(stream(model, [])) == []
    assert model.batches == []


def test_the_same_image_twice_is_answered_twice(model: ToyModel) -> None:
    """With the same id, by its own names."""
    data = png(99)
    first, second = stream(model, [image("a.png", data), image("b.png", data)])
    assert first.image_id == second.image_id
    assert (first.path, second.path) == ("a.png", "b.png")


def test_a_file_that_changes_is_what_was_read(model: ToyModel) -> None:
    """Each file is read once: id and answer belong to the same bytes."""
    versions = iter([png(100), png(200), png(250)])
    inputs = [InputImage("x.png", lambda: next(versions))] * 2
    for answer, shade in zip(stream(model, inputs), (100, 200), strict=True):
        assert answer.image_id == images.content_id(png(shade))
        assert answer.p is not None
        assert np.isclose(answer.p[0], shade / 255)


def test_of_several_frames_the_first_counts(model: ToyModel) -> None:
    """As in training; a DICOM file with several is not readable, as in a scan."""
    frames = [Image.new("L", (4, 4), shade) for shade in (51, 204)]
    buffer = io.BytesIO()
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:])
    (answer,) = stream(model, [image("x.gif", buffer.getvalue())])
    assert answer.label == "dark"
    pytest.importorskip("pydicom")
    from test_dicom import radiograph

    data = radiograph(np.zeros((12, 4), np.uint8), Rows=6, NumberOfFrames=2)
    (answer,) = stream(model, [image("x.dcm", data)])
    assert (answer.status, answer.reason[:8]) == ("unreadable", "2 frames")


def test_the_model_sees_what_an_image_is() -> None:
    """Its name, its size in bytes, and the facts of a DICOM header."""
    pytest.importorskip("pydicom")
    from test_dicom import radiograph

    seen: list[Candidate] = []

    class Watching(ToyModel):
        def answer(self, batch: list[Candidate]) -> Scored:
            seen.extend(batch)
            return super().answer(batch)

    data = radiograph(np.full((4, 4), 99, np.uint8), Modality="DX", PatientID="Jane")
    list(stream(Watching(), [image("a.dcm", data), image("b\n.png", png(99))]))
    assert [(one.path, one.n_bytes) for one in seen] == [
        ("a.dcm", len(data)),
        (r"b\n.png", len(png(99))),
    ]
    assert [dict(one.header) for one in seen] == [{"modality": "CR/DX"}, {}]


def test_an_error_of_the_model_is_an_error() -> None:
    """It is no matter of the image, and nothing goes on behind it."""

    class Broken(ToyModel):
        def answer(self, batch: list[Candidate]) -> Scored:
            raise StoreError("a network", "another", "Restore it.")

    with pytest.raises(StoreError):
        list(stream(Broken(), shades(1, 2)))


# Batches and memory


def test_batches_have_at_most_so_many_images(model: ToyModel) -> None:
    """The answers do not depend on it."""
    inputs = shades(*range(50, 60))
    expected = [answer.p for answer in stream(ToyModel(), inputs)]
    got = [answer.p for answer in stream(model, inputs, batch_size=4)]
    assert np.array_equal(got, expected)
    assert model.batches == [4, 4, 2]


def test_large_pictures_make_small_batches(
    model: ToyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a batch nor what was read ahead of it outgrows its bytes by much."""
    monkeypatch.setattr(answers, "MOST_BYTES", 3 * 64 * 64)
    inputs = [image(f"{n}", png(n, 64)) for n in range(12)]
    assert len(list(stream(model, inputs, batch_size=10))) == 12
    assert max(model.batches) == 4


@pytest.mark.parametrize("count", slow_but([1_000, 20_000], 1_000))
def test_memory_is_flat(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Inputs are taken as they are needed, and no picture outlives its answer."""
    data, taken, made, freed, most = png(100), [], [], [], 0
    read = images.read

    def counted(content: bytes) -> images.Picture:
        picture = read(content)
        made.append(1)
        weakref.finalize(picture, freed.append, 1)
        return picture

    monkeypatch.setattr(answers.images, "read", counted)

    def inputs() -> Iterator[InputImage]:
        for _ in range(count):
            taken.append(1)
            yield image("x.png", data)

    for done, answer in enumerate(stream(ToyModel(), inputs(), batch_size=8), 1):
        assert answer.status == "ok"
        assert len(taken) - done <= 8 + answers._AHEAD + 1
        most = max(most, len(made) - len(freed))
    assert done == count
    assert most <= 8 + answers._AHEAD + 1


def test_reading_is_ahead_of_the_model_and_ends_with_it() -> None:
    """Whoever stops taking answers stops the reading; no thread is left."""
    taken = []

    def inputs() -> Iterator[InputImage]:
        for n in range(1_000):
            taken.append(n)
            yield image("x.png", png(100))

    running = stream(ToyModel(), inputs(), batch_size=2)
    next(running)
    running.close()
    gc.collect()
    deadline = time.monotonic() + 20
    while any("decode" in t.name for t in threading.enumerate()):
        assert time.monotonic() < deadline
    assert 2 <= len(taken) <= 2 + answers._AHEAD + 1


# Patients


def ids(inputs: list[InputImage], by: str, *columns: str) -> list[str]:
    group_of = Grouping(by, Inputs((lambda: iter(inputs),), columns, len(inputs)))
    return [group_of(one, one.read()) for one in inputs]


def test_a_patient_is_named_by_a_column() -> None:
    """Spaces around do not count, and what means nothing is nothing."""
    named = [image("x", b"", patient=value) for value in ("P1 ", "", "n/a", "P\n2")]
    for by in ("patient", "column:patient"):
        assert ids(named, by, "patient") == ["P1", "", "", r"P\n2"]
    assert ids([image("x", b"")], "patient", "patient") == [""]


def test_a_patient_is_named_by_the_file_name() -> None:
    """Or else by the folders, where the expression is in no file name."""
    names = ["P1_a/x.png", "P1_a/P2_y.png", "P3_a/z.png"]
    files = [image(name, b"") for name in names]
    assert ids(files, r"(P\d)_") == ["", "P2", ""]
    assert ids([files[0], files[2]], r"(P\d)_") == ["P1", "P3"]
    with pytest.raises(
        DatasetError, match=r"none in a file name or folder, e\.g\. P1_a"
    ):
        ids(files, r"(Q\d)_")


def test_folders_above_an_input_name_no_patient(tmp_path: Path) -> None:
    """All images would be of the same one."""
    folder = tmp_path / "P7_all"
    for name in ("P1_a", "P2_b"):
        (folder / name).mkdir(parents=True)
        (folder / name / "x.png").write_bytes(png(100))
    for inputs in (open_inputs([folder]), open_inputs([folder, folder / "P1_a"])):
        group_of = Grouping(r"(P\d)_", inputs)
        names = [group_of(one, b"") for one in inputs]
        assert names == ["P1", "P2", ""][: inputs.total]


def test_on_standard_input_only_the_file_name_counts() -> None:
    """It cannot be looked through in advance."""
    inputs = open_inputs(["-"], io.BytesIO(b"P1_a/x.png\nP1_a/P2_y.png\n"))
    group_of = Grouping(r"(P\d)_", inputs)
    assert [group_of(one, b"") for one in inputs] == ["", "P2"]


def test_a_patient_is_named_by_a_dicom_element() -> None:
    """By the pseudonym that a scan gives it, and never by the value."""
    pytest.importorskip("pydicom")
    from test_dicom import radiograph

    from featcache.dataset.images import dicom

    pixels = np.zeros((4, 4), np.uint8)
    data = radiograph(pixels, PatientID="Jane Doe")
    files = [image("x", data), image("y", png(1)), image("z", radiograph(pixels))]
    assert ids(files, "dicom:PatientID") == [dicom.pseudonym(data), "", ""]
    with pytest.raises(UsageError, match=r"`by` dicom:KEYWORD"):
        ids(files, "dicom:Patient")


@pytest.mark.parametrize("by", ["patient", "(a)(b)", "(", "column:x", r"column:(\d)"])
def test_what_names_no_patient_is_refused(by: str) -> None:
    """The columns that there are are offered."""
    with pytest.raises(UsageError, match="columns: age, sex"):
        ids(shades(1), by, "age", "sex")


def patients(*inputs: InputImage, refuse: bool = True) -> list[Answer]:
    collected = PatientAnswers(ToyModel())
    for answer in stream(
        ToyModel(), inputs, refuse=refuse, group_of=lambda i, _: i.columns["p"]
    ):
        collected.add(answer)
    return list(collected.answers())


def test_a_patients_answer_is_the_mean_over_its_images() -> None:
    """Only of those that are ok, and each content once."""
    a, b, dark = (png(shade) for shade in (51, 153, 20))
    files = [image("a", a, p="P1"), image("x", b"no image", p="P1")]
    files += [
        image("b", b, p="P1"),
        image("again", b, p="P1"),
        image("c", dark, p="P1"),
    ]
    for refuse in (True, False):
        (one,) = patients(*files, refuse=refuse)
        assert np.allclose(one.p, [0.4, 0.6])
        assert (one.label, one.status, one.n_images) == ("dark", "ok", 2)
        assert (one.level, one.group, one.path, one.image_id) == (
            "patient",
            "P1",
            "",
            "",
        )


def test_a_patient_reaches_operating_points_by_its_mean_probabilities() -> None:
    """As an image does, and so its zone; without probabilities it has neither."""
    files = [image(str(n), png(n), p="P") for n in (250, 100, 80)]
    (one,) = patients(*files)
    assert one.p[0] > 0.5
    assert dict(one.flags) == {"bright_at_95": True}
    assert dict(one.zones) == {"zone_bright": "between"}
    (one,) = patients(*files[1:])
    assert dict(one.flags) == {"bright_at_95": False}
    assert dict(one.zones) == {"zone_bright": "ruled out"}
    (one,) = patients(image("a", png(20), p="P"))
    assert not one.flags
    assert not one.zones
    (one,) = patients(image("a", png(20), p="P"), refuse=False)
    assert dict(one.flags) == {"bright_at_95": False}


def test_patients_come_in_the_order_of_their_first_image() -> None:
    """An image without a patient is one of its own."""
    files = [image(str(n), png(n), p=p) for n, p in ((90, "B"), (91, ""), (92, "A"))]
    names = [one.group for one in patients(*files)]
    assert names == ["B", images.content_id(png(91)), "A"]


def test_a_patient_without_an_answer_has_the_status_of_its_images() -> None:
    """With --no-refuse the refused images are averaged, and it stays marked."""
    bad, dark = image("a", b"x", p="P"), image("b", png(20), p="P")
    (one,) = patients(bad)
    assert (one.status, one.reason) == ("unreadable", "its only image is unreadable")
    assert (one.p, one.n_images) == (None, 0)
    (one,) = patients(bad, dark)
    assert (one.status, one.p, one.n_images) == ("refused", None, 0)
    assert one.reason == "all its images are refused or unreadable"
    (one,) = patients(bad, dark, refuse=False)
    assert (one.status, one.label, one.n_images) == ("refused", "dark", 1)
