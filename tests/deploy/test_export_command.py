"""featcache export, as a user types it."""

import json

import numpy as np
import pytest

from featcache.commands.ensemble import ensemble
from featcache.deploy.formats import FORMATS
from featcache.deploy.graph import parts_of
from featcache.errors import FeatcacheError


@pytest.fixture
def words(extracted, reports, toy_network):
    """Options that name the folders and the network."""
    return [
        *("--cache", extracted.folder.parent, "--reports", reports),
        *("-b", toy_network),
    ]


def test_a_run_becomes_a_file(trained, opened, candidates, words, run, tmp_path):
    """The file gives what predict gives, of pixels as featcache cuts them."""
    made = trained("logreg", views=0)
    code, out, _ = run(
        "export", made.short_id, "--to", "keras", "-o", "m.keras", *words
    )
    assert code == 0
    assert "pixels 32 px; differs from the run by at most" in out
    assert "on 36 images of chest and 28 generated pictures." in out
    model, some = opened(made), list(candidates.values())[:4]
    pixels = np.stack([one.picture.image.resize((32, 32), 2) for one in some])
    pixels = np.repeat(pixels[..., None], 3, axis=-1)
    p = FORMATS["keras"].load(tmp_path / "m.keras")({"pixels": pixels})
    np.testing.assert_allclose(p, model.predict_proba(some), atol=1e-5)


def test_an_ensemble_as_json(trained, reports, extracted, words, run):
    """An ensemble of two sizes has two inputs; --json says what was written."""
    runs = [
        trained("logreg", views=0),
        trained("xgboost", ["toynet@40"], views=0, taps="all", transform="sqrt"),
    ]
    team = ensemble(reports / extracted.dataset, [one.run_id for one in runs]).runs[0]
    arguments = (team.short_id, "--to", "openvino", "-o", "m.xml", "--json")
    code, out, _ = run("export", *arguments, *words)
    assert code == 0
    exported = json.loads(out)
    assert exported["inputs"] == {"pixels_32": 32, "pixels_40": 40}
    assert exported["classes"] == team.classes
    assert exported["parity"]["difference"] < 1e-5


def test_what_cannot_be_exported(trained, words, run, tmp_path):
    """Views, baselines and damaged bundles are refused in one line; nothing appears."""
    views = trained("logreg", tta=True).short_id
    baseline = trained("logreg", ["metadata"], views=0).short_id
    bundle = tmp_path / "m.fcb"
    bundle.write_text("text")
    for reference, message in (
        (views, "averages over augmented views (--tta)"),
        (baseline, "the baseline metadata"),
        (bundle, "no bundle, or cut short"),
    ):
        arguments = ("export", reference, "--to", "keras", "-o", "m.keras")
        code, _, err = run(*arguments, *words)
        assert (code, err.count("\n")) == (FeatcacheError.exit_code, 1)
        assert message in err
    assert list(tmp_path.iterdir()) == [bundle]


def test_only_networks_that_a_head_uses_are_built(trained, opened):
    """Columns are numbered anew among the networks that are in the graph."""
    model = opened(trained("svm", ["toynet@40"], taps="all", views=0))
    (graph,) = parts_of(model).networks
    assert graph.resize.side == 40
    assert set(graph.model.output) == {
        *("features", "conv2d", "conv2d:max"),
        *("features:gem", "features:grid3"),
    }
