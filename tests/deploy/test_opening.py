"""Opening runs and bundles, and what they answer with the cache behind them."""

import shutil
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from toys import Heard, write_images

import featcache
from featcache.core.progress import Reporter
from featcache.deploy import opening
from featcache.deploy.opening import open_model
from featcache.errors import FeatcacheError, StoreError
from featcache.features import store


@pytest.fixture
def new_image(tmp_path):
    pixels = np.random.default_rng(3).integers(0, 255, (40, 32), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "new.png")
    return tmp_path / "new.png"


def test_a_second_call_runs_no_network(trained, place, new_image, monkeypatch):
    """Features of new images are kept in the cache, and read there."""
    run = trained("logreg")
    options = {"cache": place.cache, "reports": place.reports, "files": place.files}
    first = featcache.predict(run.run_id, new_image, **options)
    monkeypatch.setattr(
        "featcache.deploy.of_run.make_engine", lambda *_: pytest.fail("a network ran")
    )
    second = featcache.predict(run.run_id, new_image, **options)
    assert first.equals(second)
    assert first["status"].tolist() == ["refused"]
    kept = sorted((place.cache / ".embedder" / "features").glob("toynet*.h5"))
    assert sum(len(store.open_store(path).keys) for path in kept) >= 3


def test_a_picture_in_two_batches_is_kept_once(trained, place, tmp_path, monkeypatch):
    """A copy of it between the two calls loses no other image's features."""
    for number in range(3):
        pixels = np.random.default_rng(40 + number).integers(0, 255, (40, 32), "uint8")
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    shutil.copy(tmp_path / "0.png", tmp_path / "copy.png")
    run_id = trained("logreg").run_id
    with open_model(run_id, place) as model:
        predictor = featcache.Predictor(model)
        for names in (["0.png", "1.png"], ["copy.png", "2.png"]):
            predictor.predict([tmp_path / name for name in names])
    monkeypatch.setattr(
        "featcache.deploy.of_run.make_engine", lambda *_: pytest.fail("a network ran")
    )
    with open_model(run_id, place) as model:
        featcache.Predictor(model).predict([*tmp_path.glob("*.png")])


def test_images_of_the_dataset_need_no_network(trained, place, extracted, monkeypatch):
    """Their features are those that the run was trained on."""
    monkeypatch.setattr(
        "featcache.deploy.of_run.make_engine", lambda *_: pytest.fail("a network ran")
    )
    path = extracted.root / extracted.ok["path"].iloc[0]
    with open_model(trained("logreg").run_id, place) as model:
        predictor = featcache.Predictor(model)
        with pytest.warns(UserWarning, match="1 of 1 image was in the training set"):
            frame = predictor.predict(path)
        assert frame["status"].tolist() == ["ok"]


def test_a_damaged_store_of_new_images_is_computed_again(trained, place, new_image):
    """What is kept for later is not needed for an answer."""
    run = trained("logreg")
    options = {"cache": place.cache, "reports": place.reports, "files": place.files}
    first = featcache.predict(run.run_id, new_image, refuse=False, **options)
    for path in (place.cache / ".embedder" / "features").glob("toynet*.h5"):
        path.write_bytes(path.read_bytes()[:-100])
    second = featcache.predict(run.run_id, new_image, refuse=False, **options)
    columns = [name for name in first if name.startswith("p_")]
    np.testing.assert_allclose(first[columns], second[columns], atol=1e-9)


def test_training_images_that_are_gone_are_told(trained, place, monkeypatch):
    """Without them nothing can be refused; without refusal they are not needed."""
    run = trained("logreg")
    gone = opening.training_images

    def measure(*_):
        raise featcache.FeatcacheError("the training images", "none", "Scan again.")

    monkeypatch.setattr(gone, "measure", measure)
    with pytest.raises(FeatcacheError), open_model(run.run_id, place):
        pass


def test_other_libraries_are_told(trained, place, monkeypatch, opened):
    """Stored and new features would come of different ones."""
    run = trained("logreg")
    messages = []

    class Heard(featcache.core.progress.Reporter):
        def message(self, text):
            messages.append(text)

    @contextmanager
    def older(model, *_):
        network = model.networks[0]
        header = replace(network.store.header, versions={"numpy": "1.0"})
        network = replace(network, store=replace(network.store, header=header))
        yield replace(model, networks=(network,))

    monkeypatch.setattr(opening, "stored", older)
    with open_model(run.run_id, place, reporter=Heard()):
        pass
    assert any("numpy 1.0 then" in text for text in messages)


def test_features_of_new_images_name_the_libraries_that_made_them(
    trained, place, new_image, monkeypatch
):
    """Of a run of before an upgrade as well; rows of two versions are not mixed."""
    run = trained("logreg", ["toynet@40"])
    options = {"cache": place.cache, "reports": place.reports, "files": place.files}
    own = place.cache / ".embedder" / "features"
    for path in own.glob("*.h5"):  # of other tests
        path.unlink()
    later = {"numpy": "99.0"}
    monkeypatch.setattr("featcache.deploy.storage.installed_versions", lambda _: later)
    featcache.predict(run.run_id, new_image, refuse=False, **options)
    (made,) = own.glob("*.h5")
    assert store.open_store(made).header.versions == later
    monkeypatch.undo()
    kept, heard = made.read_bytes(), Heard()
    Image.new("L", (40, 40), 90).save(new_image)
    with open_model(run.run_id, place, reporter=heard) as model:
        featcache.Predictor(model).predict(new_image)
    (told,) = [message for message in heard.messages if "not kept" in message]
    assert f"those in {made} were made with other libraries; delete it" in told
    assert made.read_bytes() == kept
    made.unlink()


def test_a_share_that_is_not_the_bundles_own(trained, place, extracted, tmp_path):
    """A bundle's thresholds are fixed when it is made."""
    path = tmp_path / "m.fcb"
    featcache.bundle(
        trained("logreg").run_id, path, cache=place.cache, reports=place.reports,
        files=place.files,
    )  # fmt: skip
    with pytest.raises(FeatcacheError, match="the bundle's own"):
        featcache.Predictor(path, share=0.2)
    with featcache.Predictor(path, share=0.01) as predictor:
        assert predictor.classes == extracted.classes


def test_a_validation_from_python_is_kept(trained, place, extracted, tmp_path):
    """The same figures as those of the command, on the same folders."""
    root = write_images(tmp_path / "elsewhere")
    for number, path in enumerate(sorted(root.rglob("*.png"))):
        Image.open(path).rotate(1 + number).save(path)
    external = featcache.scan(root, cache=tmp_path / "cache", dataset="elsewhere")
    run, home = trained("logreg"), tmp_path / "reports" / extracted.dataset
    shutil.copytree(run.folder, home / "runs" / run.run_id)
    options = {
        "dataset": extracted.dataset, "cache": place.cache, "reports": home.parent,
        "files": place.files,
    }  # fmt: skip
    result = featcache.validate(run.run_id, external, **options)
    assert result.n > 0
    assert result.is_external
    with pytest.warns(UserWarning, match=r"the model's own dataset .* is internal"):
        own = featcache.validate(run.run_id, extracted.dataset, **options)
    assert not own.is_external
    assert set(result.to_json()) >= {"as_found", "recalibrated", "refused_share"}
    assert list(home.glob("validations/elsewhere-*.json"))


def test_a_share_of_nothing_is_refused(trained, place):
    """0 is no share, and not the default."""
    with (
        pytest.raises(FeatcacheError, match="share of refused groups above 0"),
        open_model(trained("logreg").run_id, place, refuse=0.0),
    ):
        pass


def test_training_images_without_features_are_told(trained, place, extracted, opened):
    """A store that was thinned meanwhile is named, in one line."""
    run = trained("logreg")
    network = opened(run).networks[0]
    keys = network.store.keys
    trained_on = run.table.loc[run.table["split"] == "train", "image_id"]
    gone = keys[keys["image_id"] == trained_on.iloc[0]].index
    thinned = replace(network.store, keys=keys.assign(view=keys["view"].mask(
        keys.index.isin(gone), 9)))  # fmt: skip
    model = replace(opened(run), networks=(replace(network, store=thinned),))
    with pytest.raises(FeatcacheError, match="none of 1 of them"):
        opening.rule_of(run, model, extracted)


def test_excluded_images_were_not_trained_on(trained, extracted):
    """A run on its test set alone was trained on all other images that it used."""
    run = trained("logreg")
    tested = run.table[run.table["split"] == "test"]
    person = extracted.ok["group"][~extracted.ok["group"].isin(tested["group"])].iloc[0]
    alone = replace(run, record=replace(run.record, exclude=[f"group={person}"]))
    vars(alone)["table"] = tested
    known = opening.training_set(alone, extracted).image_ids
    ok = extracted.ok
    outside = ok["group"].eq(person) | ok["image_id"].isin(tested["image_id"])
    assert known == frozenset(ok["image_id"][~outside])


def test_a_fine_tuned_run_needs_no_frozen_features(
    finetuned, trained, place, new_image, monkeypatch
):
    """Where some of them are gone it answers and refuses nothing; a head needs them."""

    def gone(*_):
        raise StoreError("features of the training images", "none of 3", "Extract.")

    monkeypatch.setattr(opening, "_plain_features", gone)
    lines = []

    class Listener(Reporter):
        def message(self, text):
            lines.append(text)

    with open_model(finetuned.run_id, place, reporter=Listener()) as model:
        assert model.rule is None
        answer = featcache.Predictor(model).predict(new_image)
    assert answer["status"].tolist() == ["ok"]
    assert any("refuses no image: expected features of the" in line for line in lines)
    with (
        pytest.raises(StoreError, match="none of 3"),
        open_model(trained("logreg").run_id, place),
    ):
        pass
