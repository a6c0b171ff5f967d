"""Bundles that are served: answers, similar images, heat maps and DICOM objects."""

import base64
import io
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from asgi import PNG, Reply, call
from toy_dicom import NAME, of_dicom

from featcache.commands.explain.attribution import margins
from featcache.dataset import images
from featcache.dataset.manifest import Manifest
from featcache.deploy.bundle.verify import Stage
from featcache.deploy.model import Candidate
from featcache.errors import BundleError, UsageError
from featcache.serve import explaining
from featcache.serve.answer_log import FILE, AnswerLog
from featcache.serve.app import Service
from featcache.serve.drawing import AGAINST, FOR, overlay
from featcache.serve.explaining import AdditiveMap
from featcache.serve.security import Guard
from featcache.serve.served import open_bundles
from featcache.serve.server import ServeOptions, serve

pydicom = pytest.importorskip("pydicom")
Made = tuple[Manifest, dict[str, Path]]
SIZES: Any = {"batch_size": 32, "most_waiting": 256}


@pytest.fixture(scope="module")
def scan_of(dataset_and_bundles: Made) -> tuple[str, bytes]:
    """A training image: its path and its bytes."""
    dataset, _ = dataset_and_bundles
    path = dataset.ok["path"].iloc[0]
    return path, (dataset.root / path).read_bytes()


@pytest.fixture
def taken(
    served: Guard, dataset_and_bundles: Made, bundle_service: Service
) -> tuple[bytes, dict[str, Any]]:
    """A training image that is not refused, and its answer."""
    dataset, _ = dataset_and_bundles
    for path in dataset.ok["path"]:
        data = (dataset.root / path).read_bytes()
        (row,) = ask(served, data).json["images"]
        if row["status"] == "ok" and row["similar"][0]["image_id"] == row["image_id"]:
            return data, row
    raise AssertionError("every image is refused")


def ask(guard: Guard, data: bytes, path: str = "/predict", **query: str) -> Reply:
    words = "&".join(f"{k}={v}" for k, v in ({"bundle": "logreg"} | query).items())
    return call(guard, "POST", f"{path}?{words}", data, PNG)


def test_answers_are_those_of_the_model(
    taken: tuple[bytes, dict[str, Any]], bundle_service: Service
) -> None:
    """The calibrated probabilities are what `predict` would print."""
    data, row = taken
    model = bundle_service.served["logreg"].model
    candidate = Candidate(row["image_id"], images.read(data), n_bytes=len(data))
    p = model.answer([candidate]).p[0]
    assert list(row["probabilities"]) == model.classes
    assert np.allclose(list(row["probabilities"].values()), p, atol=1e-6)
    for name, zone in row["zones"].items():
        value, low, high = row["probabilities"][name], zone["rule_out"], zone["rule_in"]
        ruled = "ruled in" if value >= high else "ruled out"
        assert zone["zone"] == (ruled if not low <= value < high else "between")
    assert row["zone"] == row["zones"][row["class"]]["zone"]


def test_similar_images(
    served: Guard, taken: tuple[bytes, dict[str, Any]], dataset_and_bundles: Made
) -> None:
    """Five, the nearest first; their pictures are looked up by their digests."""
    data, row = taken
    apart = [one["distance"] for one in row["similar"]]
    assert len(apart) == 5
    assert apart == sorted(apart)
    assert row["similar"][0]["image_id"] == images.content_id(data)
    assert row["in_training"]
    assert ask(served, of_dicom(data)).json["images"][0]["in_training"]
    reply = call(served, "GET", row["similar"][0]["picture"])
    assert reply.headers["content-type"] == "image/png"
    assert np.array_equal(images.decode(reply.body), images.decode(data))


def test_a_training_image_that_changed(
    served: Guard, dataset_and_bundles: Made, bundle_service: Service
) -> None:
    """Only bytes with that digest are shown; an image of the test set is not known."""
    dataset, _ = dataset_and_bundles
    image_id = next(iter(bundle_service.pictures.paths))
    path = dataset.root / bundle_service.pictures.paths[image_id][1]
    before = path.read_bytes()
    path.write_bytes(b"other")
    try:
        assert call(served, "GET", f"/images/{image_id}").status == 404
    finally:
        path.write_bytes(before)
    known = bundle_service.served["logreg"].model.training_ids
    other = next(one for one in dataset.ok["image_id"] if one not in known)
    assert call(served, "GET", f"/images/{other}").status == 404


def test_a_map_adds_up_to_the_score(
    served: Guard, taken: tuple[bytes, dict[str, Any]], bundle_service: Service
) -> None:
    """Of each class: base and map are the margin of the head before calibration."""
    data, row = taken
    model = bundle_service.served["logreg"].model.model
    candidate = Candidate(row["image_id"], images.read(data))
    raw = model.probabilities(model.embed([candidate])).raw[0]
    for code, name in enumerate(model.classes):
        one = ask(served, data, "/explain", **{"class": name}).json
        assert (one["class"], one["reason"], one["method"]) == (name, "", "linear")
        assert abs(one["score"] - margins(raw)[0, code]) < 1e-3
        assert abs(one["base"] + one["map_sum"] - one["score"]) < 1e-3
        head, _, text = one["overlay"].partition(",")
        assert head == "data:image/png;base64"
        assert base64.b64decode(text).startswith(b"\x89PNG")
    assert ask(served, data, "/explain", **{"class": "none"}).status == 422
    assert ask(served, data, "/explain").json["class"] == row["class"]


def test_why_there_is_no_map(
    served: Guard, taken: tuple[bytes, dict[str, Any]], bundle_service: Service
) -> None:
    """A head that compares with the training mean, and a refused image, say so."""
    one = ask(served, taken[0], "/explain", bundle="mlp", **{"class": "COVID"}).json
    assert "overlay" not in one
    assert "the mean of the training images" in one["reason"]
    white = io.BytesIO()
    from PIL import Image

    Image.new("RGB", (40, 32), (255, 0, 0)).save(white, "PNG")
    one = ask(served, white.getvalue(), "/explain", **{"class": "COVID"}).json
    assert one["class"] is None
    assert one["reason"].startswith("the image is refused: ")
    reply = call(served, "GET", "/bundles").json
    assert [bool(b["no_maps"]) for b in reply["bundles"]] == [False, True]


def test_contours_by_hand() -> None:
    """Orange around what speaks for the class, blue around what speaks against it."""
    values = np.zeros((explaining.SIDE, explaining.SIDE))
    values[50:100, 50:100], values[150:200, 150:200] = 1, -1
    frame = explaining.Frame((0.0, 0.0, 100.0, 50.0))
    one = AdditiveMap("a", 0.0, 0.0, values, frame, "linear", 0.0)
    lines = np.asarray(overlay(one, (100, 50), 224))
    assert lines.shape == (112, 224, 4)
    for colour, rows in ((FOR, slice(25, 50)), (AGAINST, slice(75, 100))):
        at = np.argwhere((lines == colour).all(axis=2))
        assert len(at)
        assert ((at[:, 0] >= rows.start - 1) & (at[:, 0] <= rows.stop)).all()
    assert (lines[30:45, 60:90, 3] == 0).all()  # nothing hides the inside


def test_a_sheet_is_a_png(served: Guard, taken: tuple[bytes, dict[str, Any]]) -> None:
    """The picture and its answer, without metadata; of an mlp without contours."""
    from PIL import Image

    for bundle in ("logreg", "mlp"):
        page = Image.open(
            io.BytesIO(ask(served, taken[0], "/result", bundle=bundle).body)
        )
        assert page.mode == "RGB"
        assert page.height > page.width * 0.8
        assert page.info == {}
    assert ask(served, b"text", "/result").status == 422


def test_dicom_objects_belong_to_the_study(
    served: Guard, taken: tuple[bytes, dict[str, Any]]
) -> None:
    """The report refers to the image by TID 1500, and the capture is of its patient."""
    pytest.importorskip("highdicom")
    source = pydicom.dcmread(io.BytesIO(data := of_dicom(taken[0])))
    report = pydicom.dcmread(io.BytesIO(ask(served, data, "/dicom/sr").body))
    capture = pydicom.dcmread(io.BytesIO(ask(served, data, "/dicom/sc").body))
    for made in (report, capture):
        assert made.StudyInstanceUID == source.StudyInstanceUID
        assert made.PatientName == NAME
        assert made.SOPInstanceUID != source.SOPInstanceUID
        assert made.SeriesDescription == "Research use only. Not for diagnosis."
    assert report.ContentTemplateSequence[0].TemplateIdentifier == "1500"
    text = report.to_json()
    assert source.SOPInstanceUID in text
    assert "Probability of COVID" in text
    assert capture.pixel_array.ndim == 3


def test_dicom_objects_of_other_files(
    served: Guard, taken: tuple[bytes, dict[str, Any]]
) -> None:
    """Their study is made up, the same each time; the report refers to the capture."""
    pytest.importorskip("highdicom")
    reports = [ask(served, taken[0], "/dicom/sr").body for _ in range(2)]
    first, second = (pydicom.dcmread(io.BytesIO(one)) for one in reports)
    capture = pydicom.dcmread(io.BytesIO(ask(served, taken[0], "/dicom/sc").body))
    assert first.StudyInstanceUID == second.StudyInstanceUID == capture.StudyInstanceUID
    assert first.PatientName == ""
    assert capture.SOPInstanceUID in first.to_json()
    data = of_dicom(taken[0], StudyInstanceUID="")
    reply = ask(served, data, "/dicom/sr")
    assert reply.status == 422
    assert "StudyInstanceUID" in reply.problem


@pytest.mark.parametrize("sent", ["picture", "chest", "hand", "part unknown"])
def test_dicom_objects_are_valid(
    served: Guard, taken: tuple[bytes, dict[str, Any]], tmp_path: Path, sent: str
) -> None:
    """By the validator of dicom3tools, which does not know codes of our own."""
    if shutil.which("dciodvfy") is None:
        pytest.skip("dciodvfy (Debian's dicom3tools) is not installed")
    parts = {"BodyPartExamined": sent.upper()} if sent in ("chest", "hand") else {}
    parts |= {"Laterality": "L"} if sent == "hand" else {}
    data = taken[0] if sent == "picture" else of_dicom(taken[0], **parts)
    for kind in ("sc", "sr"):
        path = tmp_path / f"{kind}.dcm"
        path.write_bytes(ask(served, data, f"/dicom/{kind}").body)
        done = subprocess.run(["dciodvfy", path], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert "Error" not in done.stderr


def test_nothing_says_who_the_patient_is(
    served: Guard,
    bundle_service: Service,
    taken: tuple[bytes, dict[str, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Neither answers, pictures and explanations nor the log, for a DICOM file."""
    log, data = AnswerLog(tmp_path), of_dicom(taken[0])
    monkeypatch.setattr(bundle_service, "log", log)
    bodies = [
        ask(served, data, path).body
        for path in ("/predict", "/picture", "/explain", "/result")
    ]
    log.close()
    for text in (*bodies, (tmp_path / FILE).read_bytes()):
        assert b"Doe" not in text
        assert b"4711" not in text
    line = json.loads((tmp_path / FILE).read_text())
    assert line["image_id"] == images.content_id(data)


def test_bundles_of_one_name(dataset_and_bundles: Made, tmp_path: Path) -> None:
    """Two are refused, and so is what is no bundle, before any is opened."""
    path = dataset_and_bundles[1]["logreg"]
    with (
        pytest.raises(BundleError, match="have the same name, logreg"),
        open_bundles([path, tmp_path / "logreg.fcb"], **SIZES),
    ):
        pass
    with (
        pytest.raises(BundleError, match="is no bundle"),
        open_bundles([tmp_path / "run"], **SIZES),
    ):
        pass


def test_a_bundle_that_does_not_prove_itself(
    dataset_and_bundles: Made, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It is not served, and the stage is said."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))  # where nothing is proved yet
    stages = [Stage("features", 0.5, 1e-4)]
    monkeypatch.setattr("featcache.deploy.bundle.memo.verify", lambda _: stages)
    with (
        pytest.raises(BundleError, match=r"stage features, a difference of 0\.5"),
        open_bundles([dataset_and_bundles[1]["logreg"]], **SIZES),
    ):
        pass


def test_options_that_let_nothing_through(dataset_and_bundles: Made) -> None:
    """Refused before a bundle is opened."""
    with pytest.raises(UsageError, match="`max_files` above 0"):
        serve([], None, ServeOptions(max_files=0), announce=print)  # type: ignore[arg-type]
