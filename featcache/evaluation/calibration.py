"""Calibration: probabilities that mean what they say, chosen without leaking.

Two kinds are tried. Temperature: the logarithms of the probabilities are divided by
one number (Guo et al., ICML 2017). Sigmoid: Platt's line on the log-odds of each class
against the rest, with his smoothed targets (Platt 1999), and the classes brought back
to a sum of one (Zadrozny and Elkan, KDD 2002). Both have so few parameters that a few
hundred images are enough.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize, minimize_scalar
from scipy.special import expit, log_expit, log_softmax, softmax

from featcache.dataset.splits import TEST
from featcache.errors import RunError, SplitError, UsageError
from featcache.evaluation import metrics
from featcache.evaluation.record import CalibrationInfo

Array = NDArray[np.float64]
Labels = NDArray[np.int64]

FLOOR = 1e-15  # of a probability, as in the log-loss
_TEMPERATURES = (0.05, 20.0)
_SLOPES = (0.0, 20.0)  # never below 0: that would turn a class round
_LEAST = 5e-4  # the least change that three decimals show


@dataclass(frozen=True)
class Calibrator:
    """Maps probabilities (M, C) to calibrated ones.

    Attributes:
        method: "none", "temperature" or "sigmoid".
        parameters: ``temperature``, or ``slope`` and ``intercept`` of C numbers each.
    """

    method: str = "none"
    parameters: dict[str, Any] = field(default_factory=dict)

    def __call__(self, P: ArrayLike) -> Array:
        """Calibrated probabilities (M, C); rows sum to one."""
        return _KINDS[self.method].apply(np.asarray(P, np.float64), self.parameters)


@dataclass(frozen=True)
class Calibrated:
    """What cross-fitting gives.

    Attributes:
        p: (N, C) out-of-fold probabilities, each calibrated by what the other folds
            say.
        calibrator: Fitted on all folds: for the test part and for new images.
        record: What the record of the run says of it.
    """

    p: Array
    calibrator: Calibrator
    record: CalibrationInfo


def cross_fit(
    y: ArrayLike, P: ArrayLike, folds: ArrayLike, *, groups: ArrayLike | None = None
) -> Calibrated:
    """Calibrates out-of-fold probabilities without an image's own say.

    For each fold, kind and parameters come from the other folds alone: a kind is kept
    if, fitted on all but one of these and applied to that one in turn, it lowers the
    log-loss and neither accuracy nor AUC (means over these folds; less than 0.0005 is
    no change); of two, the one with the lower log-loss. Otherwise the fold's
    probabilities stay as they are, and so they do with fewer than three folds. The
    final calibrator is chosen in the same way over all folds.

    Args:
        y: Class of each image, (N,).
        P: Its out-of-fold probabilities, (N, C).
        folds: Its fold, (N,), 0 or above.
        groups: Its group, (N,), to make sure that none stands in two folds.

    Raises:
        SplitError: A group stands in two folds.
        UsageError: ``y``, ``P`` or ``folds`` is not what is asked for.
    """
    y, P = metrics.checked(y, P)
    folds = _checked_folds(folds, len(y), groups)
    names = np.unique(folds).tolist()
    fits = _Fits(y, P, folds)
    calibrators = {fold: fits.choose([f for f in names if f != fold]) for fold in names}
    p = P.copy()
    for fold, calibrator in calibrators.items():
        p[folds == fold] = calibrator(P[folds == fold])
    final = fits.choose(names)
    return Calibrated(p, final, _record(y, P, p, final, calibrators))


def calibrate_predictions(
    p: ArrayLike, y: ArrayLike, groups: ArrayLike, folds: ArrayLike
) -> tuple[Array, CalibrationInfo]:
    """Calibrates each fold by the others, and the test set by all of them.

    Args:
        p: Probabilities of each image, (N, C), out-of-fold but for the test set.
        y: Its class, (N,).
        groups: Its group, (N,).
        folds: Its fold, (N,), or ``splits.TEST``.

    Returns:
        The calibrated probabilities (N, C), and `Calibrated.record`.

    Raises:
        SplitError: A group stands in two folds.
    """
    p, y, groups, folds = (np.asarray(column) for column in (p, y, groups, folds))
    train = folds != TEST
    fitted = cross_fit(y[train], p[train], folds[train], groups=groups[train])
    calibrated = p.copy()
    calibrated[train], calibrated[~train] = fitted.p, fitted.calibrator(p[~train])
    return calibrated, fitted.record


def from_record(record: CalibrationInfo) -> Calibrator:
    """Rebuilds the calibrator of a `Calibrated.record`, as read from JSON.

    Raises:
        RunError: Method and parameters do not fit.
    """
    try:
        return checked_calibrator(record.method, record.parameters)
    except ValueError as error:
        raise RunError(
            "a calibration with method and parameters",
            f"a record that cannot be used ({error})",
            "Retrain the run with `force=True`.",
        ) from error


def checked_calibrator(method: str, parameters: dict[str, Any]) -> Calibrator:
    """A calibrator of a record.

    Raises:
        ValueError: Method and parameters do not fit.
    """
    try:
        sizes = {np.size(numbers) for numbers in parameters.values()}
        sound = all(np.isfinite(numbers).all() for numbers in parameters.values())
        sound &= set(parameters) == set(_KINDS[method].parameters) and len(sizes) < 2
        if not sound or parameters.get("temperature", 1) <= 0:
            raise ValueError(f"{method} with {parameters}")
    except (KeyError, TypeError) as error:
        raise ValueError(f"the calibration {method!r}: {error}") from error
    return Calibrator(method, parameters)


class _Fits:
    """Calibrators fitted on some of the folds; none is fitted twice."""

    def __init__(self, y: Labels, P: Array, folds: Labels) -> None:
        self.y, self.P, self.folds = y, P, folds
        self.fitted: dict[tuple[str, tuple[int, ...]], Calibrator] = {}

    def fit(self, method: str, names: list[int]) -> Calibrator:
        """The calibrator of a kind on the named folds."""
        key = method, tuple(names)
        if key not in self.fitted:
            of = np.isin(self.folds, names)
            parameters = _KINDS[method].fit(self.y[of], self.P[of])
            self.fitted[key] = Calibrator(method, parameters)
        return self.fitted[key]

    def choose(self, names: list[int]) -> Calibrator:
        """The best kind by leaving out each of the named folds, fitted on all."""
        best = "none"
        if len(names) > 1:
            plain = self._figures(self.P, names)
            loss = plain[0] - _LEAST
            for method in ("temperature", "sigmoid"):
                means = self._figures(self._cross_calibrated(method, names), names)
                if means[0] < loss and all(means[1:] > plain[1:] - _LEAST):
                    best, loss = method, means[0]
        return self.fit(best, names)

    def _figures(self, p: Array, names: list[int]) -> Array:
        """Log-loss, accuracy and AUC, each the mean of those of the named folds.

        An AUC over all of them would compare images of different calibrators.
        """
        folds = [self.folds == name for name in names]
        by_fold = [_figures(self.y[of], p[of]) for of in folds]
        table = [[f["log_loss"], f["accuracy"], f["auc"]] for f in by_fold]
        # A fold of one class has no AUC, which is no reason against.
        return np.asarray(np.nan_to_num(np.array(table)).mean(axis=0))

    def _cross_calibrated(self, method: str, names: list[int]) -> Array:
        """Probabilities where each named fold is calibrated by the other ones."""
        p = self.P.copy()
        for name in names:
            others = [other for other in names if other != name]
            p[self.folds == name] = self.fit(method, others)(self.P[self.folds == name])
        return p


def _figures(y: Labels, P: Array) -> dict[str, float]:
    values = metrics.scores(y, P)
    return {name: values[name] for name in ("log_loss", "ece", "accuracy", "auc")}


def _record(
    y: Labels, P: Array, p: Array, final: Calibrator, calibrators: dict[int, Calibrator]
) -> CalibrationInfo:
    before, after = _figures(y, P), _figures(y, p)
    return CalibrationInfo(
        method=final.method,
        parameters=final.parameters,
        folds=[calibrator.method for calibrator in calibrators.values()],
        kept=final.method != "none",
        **{f"{name}_before": value for name, value in before.items()},
        **{f"{name}_after": value for name, value in after.items()},
    )


@dataclass(frozen=True)
class _Kind:
    """One way to calibrate: names of its parameters, how to find and to use them."""

    parameters: tuple[str, ...]
    fit: Callable[[Labels, Array], dict[str, Any]]
    apply: Callable[[Array, dict[str, Any]], Array]


def _fit_temperature(y: Labels, P: Array) -> dict[str, Any]:
    logits, rows = _logarithms(P), np.arange(len(y))

    def loss(log_temperature: float) -> float:
        log_p = log_softmax(logits / np.exp(log_temperature), axis=1)
        return float(-log_p[rows, y].mean())

    optimum = minimize_scalar(loss, bounds=np.log(_TEMPERATURES), method="bounded")
    return {"temperature": float(np.exp(optimum.x))}


def _apply_temperature(P: Array, parameters: dict[str, Any]) -> Array:
    return np.asarray(softmax(_logarithms(P) / parameters["temperature"], axis=1))


def _fit_sigmoid(y: Labels, P: Array) -> dict[str, Any]:
    odds, classes = log_odds(P), P.shape[1]
    inside = y[:, None] == np.arange(classes)
    count = inside.sum(axis=0)
    # Platt's targets: one image that is unlike the others has been seen of each side.
    target = np.where(inside, (count + 1) / (count + 2), 1 / (len(y) - count + 2))

    def loss(numbers: Array) -> tuple[float, Array]:
        slope, intercept = numbers.reshape(2, classes)
        line = slope * odds + intercept
        cost = -(target * log_expit(line) + (1 - target) * log_expit(-line))
        gap = expit(line) - target
        change = np.concatenate([(gap * odds).mean(axis=0), gap.mean(axis=0)])
        return float(cost.mean(axis=0).sum()), change

    start = np.repeat([1.0, 0.0], classes)
    limits = [_SLOPES] * classes + [(None, None)] * classes
    optimum = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=limits)
    slope, intercept = optimum.x.reshape(2, classes)
    return {"slope": slope.tolist(), "intercept": intercept.tolist()}


def _apply_sigmoid(P: Array, parameters: dict[str, Any]) -> Array:
    line = np.asarray(parameters["slope"]) * log_odds(P) + parameters["intercept"]
    # The sigmoids over their sum, safe where all are tiny.
    return np.asarray(softmax(log_expit(line), axis=1))


def _logarithms(P: Array) -> Array:
    return np.log(np.clip(P, FLOOR, 1.0))


def log_odds(P: Array) -> Array:
    """ln(p / (1 - p)) of each probability, which is clipped at 1e-15 and 1 - 1e-15."""
    inner = np.clip(P, FLOOR, 1 - FLOOR)
    return np.log(inner) - np.log1p(-inner)


_KINDS = {
    "none": _Kind((), lambda y, P: {}, lambda P, parameters: P),
    "temperature": _Kind(("temperature",), _fit_temperature, _apply_temperature),
    "sigmoid": _Kind(("slope", "intercept"), _fit_sigmoid, _apply_sigmoid),
}


def _checked_folds(
    folds: ArrayLike, images: int, groups: ArrayLike | None
) -> NDArray[np.int64]:
    fold_of = np.asarray(folds)
    if (
        fold_of.shape != (images,)
        or fold_of.dtype.kind not in "iu"
        or fold_of.min() < 0
    ):
        raise UsageError(
            f"a fold of 0 or above for each of {images} images",
            f"{fold_of.dtype} folds {fold_of.shape}",
            "Pass only the out-of-fold predictions, without the test set.",
        )
    if groups is not None:
        pairs = set(zip(np.asarray(groups).tolist(), fold_of.tolist(), strict=True))
        folds_of = Counter(group for group, _ in pairs)
        if twice := sum(count > 1 for count in folds_of.values()):
            raise SplitError(
                "every group to be in one fold",
                f"{twice} in several",
                "Use groups and folds of the same split.",
            )
    return fold_of.astype(np.int64)
