"""Mean maps: cheaper than single ones, told of beforehand, and made last."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from records import CLASSES

from featcache import heads
from featcache.commands import explain as explaining
from featcache.commands.explain import attribution, class_means, pace
from featcache.commands.explain.attribution.contributions import Sampling
from featcache.core.progress import Messages
from featcache.core.text import file_name

ROWS, WIDTH = 40, 8


def _phi(sampling: Sampling, rows: int) -> np.ndarray:
    """Shapley values of rows that are all alike, by an svm."""
    rng = np.random.default_rng(0)
    codes = np.arange(60) % 3
    X = np.maximum(rng.normal(0.5, 1, (60, WIDTH)) + 1.2 * np.eye(WIDTH)[codes], 0)
    head = heads.make("svm", tune=False).fit(X, codes)
    same = np.repeat(X[:1] + 1, rows, axis=0)
    split = attribution.contributions(
        head, same, np.zeros(rows, int), background=X.mean(axis=0), sampling=sampling
    )
    margins = attribution.margins(head.predict_proba(same))[:, 0]
    np.testing.assert_allclose(split.base + split.phi.sum(axis=1), margins, atol=1e-5)
    return split.phi


@pytest.mark.slow
def test_the_mean_over_images_is_as_exact_as_a_single_map() -> None:
    """More so: each image has its own orders, though half as many."""
    shared = Sampling()
    assert (shared.orders, shared.of_mean.orders) == (16, 8)
    many = _phi(Sampling(seed=1, orders=150), 1)[0]
    phi, single = _phi(shared.of_mean, ROWS), _phi(shared, 2)
    assert (np.ptp(phi, axis=0) > 0).any()
    assert (single == single[0]).all()
    error_of_one = np.abs(phi - many).max(axis=1).mean()
    error_of_mean = np.abs(phi.mean(axis=0) - many).max()
    assert error_of_mean < error_of_one / 2


def test_an_image_has_its_orders_wherever_the_rows_are_cut() -> None:
    """They go by its number among all, not among those that are made at once."""
    whole = Sampling().of_mean
    later = whole._replace(first=8)
    assert (whole.permutations(9, WIDTH)[0] == later.permutations(1, WIDTH)[0]).all()


class Ended(Messages):
    """Keeps the lines of a log."""

    def ended(self, text: str) -> None:
        """Keeps it."""
        self.texts.append(text)


def test_the_pace_is_told_now_and_then() -> None:
    """At once if it takes long, then after 30 s, and not near the end."""
    now, told = [0.0], Ended()
    one = pace.Pace(told, 100, "maps", "wait", lambda: now[0])
    for done, seconds in ((10, 9), (20, 20), (41, 41), (95, 95), (100, 100)):
        now[0] = seconds
        one.tell(done)
    assert told.texts == [
        "10 of 100 maps; about 81 s left (wait)",
        "41 of 100 maps; about 59 s left",
    ]


@pytest.mark.slow
def test_single_maps_are_kept_if_the_mean_maps_are_stopped(
    run: Any, trained: Any, dataset: Any, toy_network: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """They are written before; the last line does not promise to resume."""
    made, means = trained("svm"), class_means.means

    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(explaining, "WORTH_TELLING", 0)
    monkeypatch.setattr(class_means, "means", stopped)
    words = ("explain", made.run_id, "--cache", dataset.folder.parent, "--reports",
             tmp_path / "reports", "-b", toy_network, "--per-class", 1)  # fmt: skip
    code, _, err = run(*words)
    folder = tmp_path / "reports" / "chest" / "explain" / made.run_id
    assert code == 130
    assert f"Written so far: {folder}" in err
    assert "3 maps made; the mean maps are next, over " in err
    assert err.splitlines()[-1].startswith("Interrupted. Only what was written is kept")
    names = {path.name for path in folder.iterdir()}
    sheets = {f"class-{file_name(name)}.png" for name in CLASSES}
    assert sheets | {"maps.json", "maps.npz"} <= names
    assert "mean-shapley.png" not in names
    monkeypatch.setattr(class_means, "means", means)
    assert run(*words)[0] == 0
    assert (folder / "mean-shapley.png").is_file()
