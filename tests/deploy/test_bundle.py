"""Bundles: a model that leaves the house, and proves itself elsewhere."""

import io
import json
import zipfile

import numpy as np
import pytest
from toys import slow_but

from featcache.commands.bundle import make_bundle
from featcache.core import checked
from featcache.dataset.perceptual_hashes import BYTES
from featcache.deploy import opening
from featcache.deploy.bundle import archive, golden
from featcache.deploy.bundle import verify as verifying
from featcache.deploy.bundle.open import open_bundle
from featcache.deploy.bundle.trained import of_bundle
from featcache.deploy.bundle.verify import STAGES, verify
from featcache.deploy.model import Candidate
from featcache.errors import BundleError, FeatcacheError
from featcache.evaluation.runs import TRAIN

WORDS = [
    *("views", "taps", "regions", "keras", "trees", "baseline", "ensemble"),
    "fine-tuned",
]


@pytest.mark.parametrize("word", slow_but(WORDS, "ensemble"))
def test_a_bundle_says_what_its_run_says(word, run_of, bundled, opened, candidates):
    """Without the cache, the answers are those of the run; all stages pass."""
    run = run_of[word]()
    bundle = open_bundle(bundled(run))
    some = list(candidates.values())[:12]
    expected = opened(run).predict_proba(some)
    np.testing.assert_allclose(bundle.model.predict_proba(some), expected, atol=1e-5)
    stages = verify(bundle)
    assert [stage.name for stage in stages] == list(STAGES)
    assert all(stage.passed for stage in stages), stages


def test_a_bundle_that_names_its_network_finds_it(
    trained, bundled, toy_network, tmp_path, monkeypatch
):
    """With ``reference`` the network stays outside, and is converted for its user."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    path = bundled(trained("logreg"), reference=True)
    with pytest.raises(FeatcacheError, match="the file of toynet"):
        open_bundle(path)
    bundle = open_bundle(path, files=[toy_network])
    assert all(stage.passed for stage in verify(bundle))
    assert list(tmp_path.glob("featcache/openvino/toynet-*.xml"))


def test_the_same_run_gives_the_same_bytes(trained, extracted, toy_network, tmp_path):
    """Nothing of the day or the place is in a bundle."""
    run = trained("logreg")
    for name in ("a.fcb", "b.fcb"):
        make_bundle(extracted, run, tmp_path / name, files=[toy_network])
    assert (tmp_path / "a.fcb").read_bytes() == (tmp_path / "b.fcb").read_bytes()


def problem_of(path):
    """Why a bundle is not used: on opening, else by its first failed stage."""
    try:
        return next(one.problem for one in verify(open_bundle(path)) if not one.passed)
    except BundleError as error:
        return error.problem


def test_one_changed_byte_in_any_member_is_noticed(team, bundled, tmp_path):
    """The digest of a member, or of the manifest, names it."""
    path = bundled(team)
    with zipfile.ZipFile(path) as file:
        members = {i.filename: i for i in file.infolist() if i.file_size}
    content = path.read_bytes()
    for name, info in members.items():
        start = info.header_offset + 30 + len(name)
        start += int.from_bytes(content[info.header_offset + 28 :][:2], "little")
        changed = bytearray(content)
        changed[start + info.file_size // 2] ^= 1
        other = tmp_path / "changed.fcb"
        other.write_bytes(changed)
        assert problem_of(other), name


def rewritten(path, target, **changes):
    """A copy whose record was changed, with a digest that fits again."""
    members = {}
    with zipfile.ZipFile(path) as file:
        for name in file.namelist():
            members[name] = file.read(name)
    record = json.loads(members.pop(archive.MANIFEST))
    files = {name: data for name, data in members.items()}
    record = {k: v for k, v in record.items() if k not in ("sha256", "files")}
    archive.write(target, record | changes, files)
    return target


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 2}, "format 2"),
        ({"format": "1"}, "format '1'"),
        ({"classes": ["a", "a"]}, "not distinct"),
        ({"classes": ["a", "b"]}, "other classes"),
        ({"weights": []}, "do not match the members"),
        ({"members": []}, "do not match the members"),
        ({"networks": []}, "no network gives"),
        ({"calibration": {"method": "evil", "parameters": {}}}, "evil"),
        ({"run": 3}, "run is not text"),
    ],
)
def test_a_record_that_does_not_fit_is_refused(
    changes, message, trained, bundled, tmp_path
):
    """Whatever the digests say, a bundle has to fit together."""
    path = rewritten(bundled(trained("logreg")), tmp_path / "other.fcb", **changes)
    with pytest.raises(BundleError, match=message):
        open_bundle(path)


def zipped(tmp_path, members, kind=zipfile.ZIP_STORED):
    path = tmp_path / "hostile.fcb"
    with zipfile.ZipFile(path, "w", kind) as file:
        for name, data in members:
            file.writestr(name, data)
    return path


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([], "no manifest.json"),
        ([("../manifest.json", b"{}")], "no manifest.json"),
        ([("manifest.json", b"{}"), ("../../x.py", b"")], "unknown member"),
        ([("manifest.json", b"{}"), ("heads/0/model.pkl", b"")], "unknown member"),
        ([("manifest.json", b"{}"), ("/etc/passwd", b"")], "unknown member"),
        ([("manifest.json", b"[" * 9999)], "cannot be used"),
        ([("manifest.json", b"{}")], "digest"),
    ],
)
def test_a_hostile_file_is_refused(members, message, tmp_path):
    """Unknown names, ways out of the folder, and records that are none."""
    with pytest.raises(BundleError, match=message):
        open_bundle(zipped(tmp_path, members))


def test_what_is_compressed_is_refused_before_it_grows(tmp_path):
    """A zip bomb has nothing to unpack."""
    bomb = zipped(
        tmp_path, [("manifest.json", b"0" * 10**7)], kind=zipfile.ZIP_DEFLATED
    )
    with pytest.raises(BundleError, match="compressed member"):
        open_bundle(bomb)


@pytest.mark.parametrize("kept", [0.0, 0.3, 0.999])
def test_a_bundle_that_was_cut_short_says_so(kept, trained, bundled, tmp_path):
    """Nothing of it is used."""
    content = bundled(trained("logreg")).read_bytes()
    (tmp_path / "short.fcb").write_bytes(content[: int(kept * len(content))])
    with pytest.raises(BundleError, match="cannot be used"):
        open_bundle(tmp_path / "short.fcb")


def test_a_head_of_another_class_is_refused(trained, extracted, toy_network, tmp_path):
    """A bundle must not import code; so none is made of a custom head."""
    run = trained("sklearn.neighbors:KNeighborsClassifier", views=0)
    with pytest.raises(BundleError, match="a head of featcache"):
        make_bundle(extracted, run, tmp_path / "m.fcb", files=[toy_network])
    assert not list(tmp_path.iterdir())


def test_a_bundle_of_arrays_with_objects_is_refused(trained, bundled, tmp_path):
    """Arrays are numbers: nothing is unpickled."""
    path = bundled(trained("logreg"))
    buffer = io.BytesIO()
    np.save(buffer, np.array([{}], dtype=object), allow_pickle=True)
    members = {}
    with zipfile.ZipFile(path) as file:
        for name in file.namelist():
            members[name] = file.read(name)
    record = json.loads(members.pop(archive.MANIFEST))
    checked.refuse_changed_record(record)
    members["golden/raw.npy"] = buffer.getvalue()
    del record["sha256"], record["files"]
    archive.write(tmp_path / "o.fcb", record, members)
    stages = verify(open_bundle(tmp_path / "o.fcb"))
    assert stages[-1].name == "head"
    assert "pickle" in stages[-1].problem


def members_of(path):
    with zipfile.ZipFile(path) as file:
        return {name: file.read(name) for name in file.namelist()}


def test_training_images_are_marked(trained, bundled, place, candidates):
    """By a run as by its bundle, in another file too, and no image of its test set."""
    run = trained("logreg")
    known = set(run.table.loc[run.table["split"] == TRAIN, "image_id"])
    copies = [Candidate(i[::-1], one.picture) for i, one in candidates.items()]
    for reference in (run.run_id, str(bundled(run))):
        with opening.open_model(reference, place) as model:
            marks = model.answer([*candidates.values()]).in_training
            of_copies = model.answer(copies).in_training
        assert marks == [image_id in known for image_id in candidates]
        assert of_copies == marks
    assert any(marks)
    assert not all(marks)


def test_hashes_are_those_of_the_training_images(trained, extracted, bundled, tmp_path):
    """One each, which a bundle and its run share; others in number are refused."""
    run = trained("logreg")
    path = bundled(run)
    own = opening.training_set(run, extracted, with_hashes=True).hashes
    known = of_bundle(open_bundle(path)).training_hashes
    assert set(known) == set(own)
    assert all((known[name] == own[name]).all() for name in own)
    members = members_of(path)
    record = json.loads(members.pop(archive.MANIFEST))
    del record["sha256"], record["files"]
    buffer = io.BytesIO()
    np.save(buffer, np.zeros((1, BYTES), np.uint8))
    members["training/hashes.npy"] = buffer.getvalue()
    archive.write(tmp_path / "o.fcb", record, members)
    with pytest.raises(BundleError, match="perceptual hashes"):
        of_bundle(open_bundle(tmp_path / "o.fcb"))


def test_an_edited_member_is_noticed_by_its_digest(trained, bundled, tmp_path):
    """The zip's own checksums fit; the manifest's do not."""
    members = members_of(bundled(trained("logreg")))
    for name in members:
        if name != archive.MANIFEST:
            edited = members | {name: members[name] + b" "}
            problem = problem_of(zipped(tmp_path, edited.items()))
            assert "was changed after it was written" in problem, name


@pytest.mark.parametrize(
    ("prefix", "stage"),
    slow_but(
        [("golden/case-0", "decoding"), ("networks/", "features"), ("heads/", "head")],
        ("heads/", "head"),
    ),
)
def test_parts_of_another_bundle_are_named_by_their_stage(
    prefix, stage, trained, bundled, toy_network, tmp_path
):
    """All digests fit; what is computed does not."""
    own = members_of(bundled(trained("logreg", views=0)))
    other = members_of(bundled(trained("logreg", ["toynet@40"], views=0)))
    if prefix.startswith("golden"):
        other = {"golden/case-0.png": own["golden/case-1.png"]}
    record = json.loads(own.pop(archive.MANIFEST))
    del record["sha256"], record["files"]
    mixed = own | {k: v for k, v in other.items() if k.startswith(prefix)}
    archive.write(tmp_path / "mixed.fcb", record, mixed)
    failed = [
        one for one in verify(open_bundle(tmp_path / "mixed.fcb")) if not one.passed
    ]
    assert failed[0].name == stage


def test_a_bundle_proves_itself_where_dicom_cannot_be_read(
    trained, bundled, monkeypatch
):
    """Without pydicom its DICOM case is left out, and named; all stages pass."""
    path, candidate = bundled(trained("logreg")), golden.candidate
    monkeypatch.setattr(verifying, "installed_versions", lambda _: {})

    def read(data):
        assert data[128:132] != b"DICM"
        return candidate(data)

    monkeypatch.setattr(golden, "candidate", read)
    stages = verify(open_bundle(path))
    assert [stage.name for stage in stages] == list(STAGES)
    assert all(stage.passed for stage in stages), stages
    assert stages[1].note == "without case-7.dcm, which needs pydicom"


def test_no_name_of_a_group_is_in_a_bundle(trained, extracted, toy_network, tmp_path):
    """An audit may say which patients are divided; the card says that some are."""
    run, path = trained("logreg"), tmp_path / "model.fcb"
    audit = run.folder.parents[1] / "audit.json"
    check = {"code": "FC010", "title": "Are groups divided?", "status": "finding",
             "severity": "issue", "message": "1 group, such as Jane Doe"}  # fmt: skip
    audit.write_text(json.dumps({"checks": [check]}))
    try:
        make_bundle(extracted, run, path, files=[toy_network])
    finally:
        audit.unlink()
    members = members_of(path)
    assert not any(b"Jane" in data for data in members.values())
    assert b"FC010 Are groups divided? Yes." in members["card.md"]
