"""Bundles exported to OpenVINO: their own networks, with the heads behind them."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from toys import slow_but

from featcache.commands.ensemble import ensemble
from featcache.commands.export import export_bundle
from featcache.dataset import views
from featcache.deploy import exporting
from featcache.deploy.bundle import memo
from featcache.deploy.bundle.open import open_bundle
from featcache.deploy.exporting import export
from featcache.deploy.formats import FORMATS, save_openvino
from featcache.deploy.graph import joined_model, parts_of
from featcache.deploy.model import PLAIN
from featcache.deploy.parity_images import generated
from featcache.errors import BundleError, ExportError, UsageError, WeightsError


def without_views(model):
    """A model that looks at each image once."""
    members = [replace(one, renderings=(PLAIN,)) for one in model.members]
    return replace(model, members=tuple(members))


def answers(path, parts, candidates, to="openvino"):
    """What a file says of images, cut as its inputs ask for."""
    pixels = {
        name: np.stack([views.render(one.picture.image, resize) for one in candidates])
        for name, resize in parts.inputs.items()
    }
    return FORMATS[to].load(path)(pixels)


@pytest.mark.parametrize(
    "word",
    slow_but(["taps", "keras", "trees", "ensemble", "fine-tuned"], "ensemble"),
)
def test_networks_of_a_bundle_get_its_heads(
    word, run_of, bundled, candidates, tmp_path
):
    """Taps, sizes, transforms, PCA and all heads: what the bundle says, to 1e-5."""
    model = without_views(open_bundle(bundled(run_of[word]())).model)
    parts = parts_of(model)
    exported = export(parts, tmp_path / "m.xml", to="openvino")
    assert exported.parity.difference < 1e-5
    some = list(candidates.values())[:8]
    p = answers(exported.path, parts, some)
    np.testing.assert_allclose(p, model.predict_proba(some), atol=1e-5)
    assert {one.name for one in tmp_path.iterdir()} == {"m.xml", "m.bin"}


@pytest.mark.slow
def test_stored_precision_is_kept(trained, bundled, tmp_path):
    """Where features are stored in float16, the heads see them rounded so."""
    model = open_bundle(bundled(trained("xgboost", views=0))).model
    networks = tuple(replace(one, dtype="float16") for one in model.networks)
    parts = parts_of(replace(model, networks=networks))
    images = generated(parts.resizes, 8)
    graph = joined_model(parts, probe=True)
    exported = export(parts, tmp_path / "m.xml", to="openvino", images=images)
    assert exported.parity.difference < 1e-5
    path = tmp_path / "probe.xml"
    save_openvino(graph, path, {"use": ""})
    probed = FORMATS["openvino"].load(path)({"pixels": images.pixels[parts.resizes[0]]})
    embedded = probed[:, len(parts.classes) :]
    np.testing.assert_array_equal(embedded, embedded.astype(np.float16))


def test_a_bundle_becomes_a_file(trained, bundled, run):
    """No cache is needed; the golden cases are among the images of the check."""
    path = bundled(trained("logreg", views=0))
    code, out, _ = run("export", path, "--to", "openvino", "-o", "m.xml")
    assert code == 0
    assert "m.xml: " + str(path) in out
    assert "on 8 golden cases and 56 generated pictures." in out
    code, out, _ = run(*("export", path, "--to", "openvino", "-o", "n.xml", "--json"))
    exported = json.loads(out)
    assert exported["inputs"] == {"pixels": 32}
    assert exported["parity"]["images"] == 64


@pytest.mark.slow
def test_a_bundle_without_its_network_takes_any_format(
    trained, bundled, toy_network, candidates, tmp_path
):
    """A network that is only named is built again, from the file that is named."""
    path = bundled(trained("logreg", views=0), reference=True)
    with pytest.raises(WeightsError, match="the file of toynet"):
        export_bundle(path, tmp_path / "m.keras", to="keras")
    exported = export_bundle(
        path, tmp_path / "m.keras", to="keras", files=[toy_network]
    )
    assert exported.parity.difference < 1e-5


def test_weights_folder_has_the_network(trained, bundled, toy_network, monkeypatch):
    """A network that a bundle only names is looked for in $FEATCACHE_WEIGHTS."""
    path = bundled(trained("logreg", views=0), reference=True)
    monkeypatch.setenv("FEATCACHE_WEIGHTS", str(toy_network.parent))
    (network,) = parts_of(open_bundle(path).model).networks
    assert network.resize.side == 32


@pytest.mark.slow
def test_carried_and_built_networks_are_joined(
    trained, finetuned, reports, extracted, bundled, toy_network, candidates, tmp_path
):
    """A fine-tuned network is carried even where others are only named."""
    ids = [finetuned.run_id, trained("logreg", views=0).run_id]
    run = ensemble(reports / extracted.dataset, ids).runs[0]
    path = bundled(run, reference=True)
    model = without_views(open_bundle(path, files=[toy_network]).model)
    parts = parts_of(model)
    exported = export(parts, tmp_path / "m.xml", to="openvino")
    assert exported.parity.difference < 1e-5
    some = list(candidates.values())[:8]
    p = answers(exported.path, parts, some)
    np.testing.assert_allclose(p, model.predict_proba(some), atol=1e-5)
    with pytest.raises(ExportError, match="which carries toynet"):
        export(parts, tmp_path / "m.keras", to="keras")


def test_planted_number_is_refused(trained, bundled, tmp_path, monkeypatch):
    """A joined file that gives other probabilities does not appear."""
    path = bundled(trained("logreg", views=0))

    def planted(parts, *, probe=False):
        (member,) = parts.members
        head = open_bundle(path).model.members[0].head
        head.model_["classify"].intercept_[1] += 0.01
        return joined_model(
            replace(parts, members=[replace(member, head=head)]), probe=probe
        )

    monkeypatch.setattr(exporting, "joined_model", planted)
    with pytest.raises(ExportError, match="largest difference of"):
        export_bundle(path, tmp_path / "m.xml", to="openvino")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("to", ["onnx", "keras", "tflite"])
def test_other_formats_are_refused(to, trained, bundled, tmp_path, run):
    """A network in OpenVINO's format stays there; the error says what to do."""
    path = bundled(trained("logreg", views=0))
    name = f"m{FORMATS[to].suffix}"
    code, _, err = run("export", path, "--to", to, "-o", name)
    assert (code, err.count("\n")) == (1, 1)
    assert "carries toynet in OpenVINO's format" in err
    assert "--to openvino, or export the run" in err
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_exported(trained, bundled, tmp_path):
    """Views, baselines, damaged and absent bundles leave nothing behind."""
    whole = bundled(trained("logreg", views=0))
    output = tmp_path / "m.xml"
    cut = tmp_path / "cut.fcb"
    cut.write_bytes(whole.read_bytes()[:-1000])
    for path, error, message in (
        (bundled(trained("logreg")), ExportError, "augmented views"),
        (bundled(trained("logreg", ["metadata"], views=0)), ExportError, "baseline"),
        (cut, BundleError, "cut short"),
        (tmp_path / "no.fcb", BundleError, "No such file"),
    ):
        with pytest.raises(error, match=message):
            export_bundle(path, output, to="openvino")
        assert list(tmp_path.iterdir()) == [cut]
    output.write_text("mine")
    with pytest.raises(UsageError, match=r"m\.xml, which exists"):
        export_bundle(whole, output, to="openvino")
    assert output.read_text() == "mine"


def test_a_bundle_is_proved_first(trained, bundled, tmp_path, monkeypatch):
    """What does not give here what it gave where it was made is not exported."""
    path = shutil.copy(bundled(trained("logreg", views=0)), tmp_path / "m.fcb")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    stage = memo.verify(open_bundle(path))[-1]
    wrong = replace(stage, difference=1.0)
    monkeypatch.setattr(memo, "verify", lambda bundle: [wrong])
    with pytest.raises(BundleError, match="does not prove itself"):
        export_bundle(path, tmp_path / "m.xml", to="openvino")
    assert not (tmp_path / "m.xml").exists()
