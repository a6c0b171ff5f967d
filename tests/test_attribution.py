"""Contributions add up to margins, maps to contributions; figures checked by hand."""

import functools
from itertools import product

import numpy as np
import pytest
from toys import slow_but

from featcache import heads
from featcache.backbones.pooling import POOLINGS
from featcache.commands.explain import attribution
from featcache.commands.explain.attribution import faithful, maps
from featcache.commands.explain.attribution.stages import linear, stages
from featcache.errors import HeadError

FRONTS = {
    "plain": {},
    "sqrt": {"transform": "sqrt"},
    "l2": {"transform": "l2", "blocks": (3, 5)},
    "pca": {"pca": 4},
    "l2 and pca": {"transform": "l2", "blocks": (3, 5), "pca": 4},
}


def _toy(classes, n=60, d=8):
    """Overlapping clouds of features that are never below 0, as a ReLU leaves them."""
    rng = np.random.default_rng(0)
    codes = np.arange(n) % classes
    X = np.maximum(rng.normal(0.5, 1, (n, d)) + 1.2 * np.eye(d)[codes], 0)
    return X.astype(np.float32), codes


@functools.cache
def _fitted(name, classes=3, **front):
    X, codes = _toy(classes)
    head = heads.make(name, tune=False, **front)
    if name == "xgboost":
        head.set_params(**{"trees": 12} if not front else {"head__trees": 12})
    return head.fit(X, codes), X, codes


def _split(head, X, codes, **options):
    options = {"background": X.mean(axis=0)} | options
    return attribution.contributions(head, X, codes, **options)


def _margins(head, X, codes):
    split = attribution.margins(head.predict_proba(X))
    return split[np.arange(len(codes)), codes]


@pytest.mark.filterwarnings("ignore:The `probability` parameter:FutureWarning")
def test_a_linear_kernel_of_pairs_of_classes_is_not_taken_for_linear() -> None:
    """Its coefficients are of the six pairs of four classes, not of the classes."""
    head, X, _ = _fitted("sklearn.svm:SVC(kernel='linear', probability=True)", 4)
    parts = stages(head)
    assert linear(parts.inner, parts.rotated(parts.transformed(X))) is None


def test_margins_are_log_odds_or_centred_logits() -> None:
    """Two classes have their log-odds; more have logits whose mean is taken off."""
    two = attribution.margins(np.array([[0.2, 0.8]]))
    np.testing.assert_allclose(two, [[-np.log(4), np.log(4)]])
    logits = np.array([[1.0, 2.0, 6.0]])
    p = np.exp(logits) / np.exp(logits).sum()
    np.testing.assert_allclose(attribution.margins(p), [[-2, -1, 3]])


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("front", FRONTS)
def test_logreg_adds_up(front: str, classes: int) -> None:
    """Base and contributions are the margin, whatever stands before the head."""
    head, X, codes = _fitted("logreg", classes, **FRONTS[front])
    split = _split(head, X, codes)
    assert (split.method, split.phi.shape) == ("linear", X.shape)
    total = split.base + split.phi.sum(axis=1)
    np.testing.assert_allclose(total, _margins(head, X, codes), atol=1e-4)


def test_logreg_is_weight_times_scaled_value() -> None:
    """Without a transform the base is the intercept, the rest is in closed form."""
    head, X, codes = _fitted("logreg")
    split = _split(head, X, codes)
    scale, classify = head.model_["scale"], head.model_["classify"]
    expected = classify.coef_[codes] * (X - scale.mean_) / scale.scale_
    np.testing.assert_allclose(split.phi, expected, atol=1e-6)
    np.testing.assert_allclose(split.base, classify.intercept_[codes], atol=1e-6)


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("front", ["plain", "sqrt"])
def test_xgboost_adds_up(front: str, classes: int) -> None:
    """TreeSHAP's contributions and base are the margin."""
    head, X, codes = _fitted("xgboost", classes, **FRONTS[front])
    split = _split(head, X, codes)
    assert split.method == "treeshap"
    total = split.base + split.phi.sum(axis=1)
    np.testing.assert_allclose(total, _margins(head, X, codes), atol=1e-3)


@pytest.mark.parametrize("name", ["svm", "sklearn.naive_bayes:GaussianNB", "xgboost"])
def test_any_other_head_is_sampled_and_adds_up(name: str) -> None:
    """Shapley sampling serves heads without a closed form, and sums exactly."""
    front = {"pca": 4} if name == "xgboost" else {}
    head, X, codes = _fitted(name, **front)
    rows, codes = X[:4] + 0.01, codes[:4]  # trees cut where training rows lie
    split = _split(head, rows, codes, background=X.mean(axis=0))
    assert split.method == "shapley"
    total = split.base + split.phi.sum(axis=1)
    np.testing.assert_allclose(total, _margins(head, rows, codes), atol=1e-6)


def test_shapley_of_a_linear_head_is_known() -> None:
    """A linear head's Shapley values are weight times distance from the background."""
    head, X, codes = _fitted("logreg")
    split = _split(head, X[:3], codes[:3], method="shapley")
    weights = head.model_["classify"].coef_ / head.model_["scale"].scale_
    expected = weights[codes[:3]] * (X[:3] - X[:3].mean(axis=0))
    np.testing.assert_allclose(split.phi, expected, atol=1e-5)


@pytest.mark.parametrize("front", slow_but(["plain", "sqrt", "pca"], "plain"))
def test_keras_heads_add_up(front: str) -> None:
    """Softmax is linear to 1e-4; an MLP's integrated gradients close within a hair."""
    head, X, codes = _fitted("softmax", **FRONTS[front])
    split = _split(head, X, codes)
    assert split.method == "linear"
    total = split.base + split.phi.sum(axis=1)
    np.testing.assert_allclose(total, _margins(head, X, codes), atol=1e-4)
    head, X, codes = _fitted("mlp", **FRONTS[front])
    split = _split(head, X, codes)
    assert split.method == "integrated-gradients"
    total = split.base + split.phi.sum(axis=1)
    np.testing.assert_allclose(total, _margins(head, X, codes), atol=0.03)
    rough = _split(head, X, codes, method="gradient-input")
    np.testing.assert_array_equal(rough.base, split.base)


@pytest.mark.parametrize(
    ("name", "front"),
    slow_but(
        product(["logreg", "mlp"], FRONTS),
        *product(["logreg"], FRONTS),
        ("mlp", "plain"),
        ("mlp", "l2 and pca"),
    ),
)
def test_gradients_are_those_of_small_steps(name: str, front: str) -> None:
    """The gradient of a margin is what a small step along each feature says."""
    head, X, codes = _fitted(name, **FRONTS[front])
    row, step = (X[:1] + 0.5).astype(np.float64), 1e-2
    g = attribution.gradient(head, row, codes[:1])
    for d in range(row.shape[1]):
        up, down = row.copy(), row.copy()
        up[0, d] += step
        down[0, d] -= step
        slope = _margins(head, up, codes[:1]) - _margins(head, down, codes[:1])
        # An MLP has kinks, and numbers of 32 bits.
        assert g[0, d] == pytest.approx(slope[0] / (2 * step), abs=2e-2)


def test_a_method_that_does_not_suit_is_refused() -> None:
    """Trees have no gradients and no closed form: the way out is told."""
    head, X, codes = _fitted("xgboost")
    with pytest.raises(HeadError, match=r"\['auto'\]` or occlusion"):
        attribution.gradient(head, X, codes)
    for method in ("linear", "integrated-gradients"):
        with pytest.raises(HeadError, match=r"`methods=\['auto'\]`"):
            _split(head, X, codes, method=method)


def test_a_root_has_no_slope_at_zero() -> None:
    """Features of exactly 0 behind a square root give a gradient of 0, not infinity."""
    head, X, codes = _fitted("logreg", transform="sqrt")
    g = attribution.gradient(head, X, codes)
    assert np.isfinite(g).all()
    assert (g[X == 0] == 0).all()
    assert stages(head).transform == "sqrt"


def test_a_contribution_lies_where_its_channel_is_active() -> None:
    """Each channel's part is in proportion to its map; the cells sum to all parts."""
    A = np.array([[[1.0, 0.0], [3.0, 2.0]]])  # one row, two cells, two channels
    split = attribution.spread(A, np.array([8.0, -1.0]))
    np.testing.assert_allclose(split.cells, [[2.0, 5.0]])
    assert (split.even, split.even_share) == (0, 0)


def test_absence_has_no_place() -> None:
    """A channel near 0, or one whose cells cancel, is spread evenly and told."""
    A = np.array([[[1.0, 0.001, 5.0], [3.0, 0.0, -5.0]]])
    reference = np.array([2.0, 1.0, 1.0])
    split = attribution.spread(A, np.array([4.0, -2.0, 1.0]), reference=reference)
    np.testing.assert_allclose(split.cells, [[1 - 0.5, 3 - 0.5]])
    assert split.even == -1
    assert split.even_share == pytest.approx(3 / 7)


def test_a_maximum_is_where_it_is_reached() -> None:
    """A maximum's contribution is in its cell; cells that tie share it."""
    A = np.array([[[1.0, 2.0], [3.0, 2.0]]])
    split = attribution.spread(A, np.array([5.0, 1.0]), pooling=POOLINGS["max"])
    np.testing.assert_allclose(split.cells, [[0.5, 5.5]])
    G = maps.pooled_gradient(A, np.array([5.0, 1.0]), pooling=POOLINGS["max"])
    np.testing.assert_allclose(G, [[[0, 0.5], [5, 0.5]]])


def test_a_region_keeps_what_it_adds() -> None:
    """A region's contribution is within it; rows that two regions share add up."""
    A = np.arange(1.0, 10.0).reshape(3, 3, 1)  # grid2: rows and columns 0-1 and 1-2
    phi = np.array([12.0, 0.0, 0.0, 28.0])
    cells = attribution.spread(A, phi, pooling=POOLINGS["grid2"]).cells
    np.testing.assert_allclose(cells, [[1, 2, 0], [4, 5 + 5, 6], [0, 8, 9]])
    G = maps.pooled_gradient(A, phi, pooling=POOLINGS["grid2"])[..., 0]
    np.testing.assert_allclose(G, [[3, 3, 0], [3, 10, 7], [0, 7, 7]])


def test_a_generalised_mean_is_where_its_powers_are() -> None:
    """Its contribution is shared as third powers; its slope is that of the formula."""
    A = np.array([[[1.0], [2.0]]])
    gem = POOLINGS["gem"]
    np.testing.assert_allclose(
        attribution.spread(A, np.array([9.0]), pooling=gem).cells, [[1, 8]], 1e-6
    )
    G = maps.pooled_gradient(A, np.array([1.0]), pooling=gem)[..., 0]
    step = np.array([[[1e-4], [0]]]), np.array([[[0], [1e-4]]])
    slopes = [float((gem((A + s)[None]) - gem(A[None]))[0, 0]) / 1e-4 for s in step]
    np.testing.assert_allclose(G, [slopes], 1e-3)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_maps_of_every_pooling_add_up(pooling: str) -> None:
    """The map of a linear head sums to its logit less the bias, whatever the pooling.

    A channel that is lower than usual or cancels is spread evenly, in its region.
    """
    rng, pool = np.random.default_rng(1), POOLINGS[pooling]
    A = rng.normal(0.3, 1, (7, 5, 6))
    features = pool(A[None])[0]
    weights = rng.normal(size=features.shape)
    usual = np.abs(rng.normal(size=features.shape))
    for reference in (None, usual):
        phi = weights * features
        split = attribution.spread(A, phi, pooling=pool, reference=reference)
        assert split.cells.sum() == pytest.approx(weights @ features)


@pytest.mark.parametrize("shape", [(1, 1), (7, 7), (13, 9), (55, 55)])
def test_upsampling_keeps_the_sum_and_adds_no_detail(shape: tuple[int, int]) -> None:
    """The pixels sum to the cells; even stays even, and a peak stays in its cell."""
    cells = np.random.default_rng(0).normal(size=shape)
    assert attribution.upsampled(cells, 224).sum() == pytest.approx(cells.sum())
    even = attribution.upsampled(np.ones(shape), 224)
    assert even.max() / even.min() < 1.35  # cells are not whole pixels
    one = np.zeros(shape)
    one[-1, 0] = 1
    pixels = attribution.upsampled(one, 224)
    row, column = np.unravel_index(pixels.argmax(), pixels.shape)
    assert (row * shape[0] // 224, column * shape[1] // 224) == (shape[0] - 1, 0)
    assert pixels.min() >= 0


def test_cams_of_a_pooled_head_are_known() -> None:
    """With one slope a channel HiResCAM is Grad-CAM, and sums to gradient x feature."""
    rng = np.random.default_rng(0)
    A, g = rng.random((5, 4, 3)), np.array([1.0, -2.0, 0.5])
    G = maps.pooled_gradient(A, g)
    np.testing.assert_allclose(maps.hirescam(A, G), maps.grad_cam(A, G))
    assert maps.hirescam(A, G).sum() == pytest.approx(g @ A.mean(axis=(0, 1)))
    # Grad-CAM++ by hand for one channel: alpha = g2 / (2 g2 + sum A g3), 20 times.
    slope = 1 / 20
    alpha = slope**2 / (2 * slope**2 + A[..., 0].sum() * slope**3)
    plus = maps.grad_cam_plus(A[..., :1], G[..., :1])
    np.testing.assert_allclose(plus, A[..., 0] * 20 * alpha * slope)
    assert set(attribution.CAMS) == {"grad-cam", "grad-cam++", "hirescam"}


def test_a_class_activation_map_is_the_head_on_each_cell() -> None:
    """Of a linear head on means, each cell holds what the head says of it alone."""
    head, X, codes = _fitted("logreg")
    A = np.random.default_rng(0).random((4, 4, X.shape[1]))
    f = A.mean(axis=(0, 1))[None]
    g = attribution.gradient(head, f, codes[:1])[0]
    split = _split(head, f, codes[:1])
    laid = attribution.cam_spread(A, maps.pooled_gradient(A, g), split.phi.sum())
    cells = head.model_.decision_function(A.reshape(16, -1))[:, codes[0]]
    expected = (cells - split.base[0]) / 16
    np.testing.assert_allclose(laid.cells.ravel(), expected, atol=1e-6)
    assert laid.cells.sum() == pytest.approx(split.phi.sum())


def test_faithfulness_by_hand() -> None:
    """Ranks, areas, the share inside and the pointing game of a map of four pixels."""
    values = np.array([[3.0, -1.0], [1.0, 0.0]])
    np.testing.assert_allclose(faithful.ranks(values), [[0, 0.75], [0.25, 0.5]])
    assert faithful.area(np.array([1.0, 0.5, 0.0])) == 0.5
    left = np.array([[True, False], [False, False]])
    assert faithful.inside(values, left) == 0.75
    assert faithful.points(values, left) == 1
    assert faithful.points(values, ~left) == 0
    assert faithful.points(np.zeros((2, 2)), left) == 0.25
    assert np.isnan(faithful.inside(-np.abs(values), left))
    assert np.array_equal(faithful.noise(8, seed=1), faithful.noise(8, seed=1))
