"""The examples of the page on statistics are what featcache's own functions give."""

import re
from collections.abc import Callable

import numpy as np
import pytest
from documents import read
from scipy import stats

from featcache.evaluation import metrics
from featcache.evaluation.metrics.paired import holm, sign_flip
from featcache.evaluation.operating_points.thresholds import at_sensitivity
from featcache.evaluation.utility import decision_curves, risk_coverage
from featcache.evaluation.utility.net_benefit import THRESHOLDS

# The imaginary study: 90 of 100 ill patients found, 360 of 400 healthy ones let go.
ILL, SURE = 1, 0.9
TRUTH = np.repeat([ILL, 0], [100, 400])
FOUND = np.repeat([SURE, 1 - SURE, SURE, 1 - SURE], [90, 10, 40, 360])
STUDY = TRUTH, np.column_stack([1 - FOUND, FOUND])
NO_ONE = np.tile([1.0, 0.0], (500, 1))
# On whom two runs were right: both, neither, the first alone, the second alone.
FIRST = np.repeat([1, 0, 1, 0], [80, 9, 9, 2])
SECOND = np.repeat([1, 0, 0, 1], [80, 9, 9, 2])


def two_classes(p: list[float]) -> np.ndarray:
    return np.column_stack([1 - np.array(p), p])


def predictive_values() -> list[str]:
    sensitivity, specificity = (
        metrics.per_class(*STUDY)[name][ILL] for name in ("sensitivity", "specificity")
    )
    ill = np.array([100 / 500, 0.05])
    alarms = (1 - ill) * (1 - specificity)
    ppv = ill * sensitivity / (ill * sensitivity + alarms)
    well = (1 - ill) * specificity
    npv = well / (well + ill * (1 - sensitivity))
    return [f"= {ppv[0]:.2f}.", f"= {ppv[1]:.2f}:", f"= {npv[1]:.3f}"]


def accuracies() -> list[str]:
    of_model, of_no_one = (metrics.scores(TRUTH, p) for p in (STUDY[1], NO_ONE))
    f1 = 2 * 90 / (2 * 90 + 40 + 10)
    return [
        f"accuracy (90 + 360) / 500 = {of_model['accuracy']:.2f}",
        f"(0.90 + 0.90) / 2 = {of_model['balanced_accuracy']:.2f}",
        f"400 / 500 = {of_no_one['accuracy']:.2f}",
        f"(0 + 1) / 2 = {of_no_one['balanced_accuracy']:.2f}",
        f"= {f1:.2f}.",
    ]


def area() -> list[str]:
    p = two_classes([0.9, 0.6, 0.4, 0.7, 0.3, 0.2])
    return [f"7 / 9 = {metrics.auc_ovr([1, 1, 1, 0, 0, 0], p):.2f}"]


def calibration_error() -> list[str]:
    p = two_classes([0.9] * 10 + [0.6] * 10)
    truth = np.repeat([1, 0, 1, 0], [8, 2, 7, 3])
    return [f"ECE = {metrics.scores(truth, p)['ece']:.2f}"]


def losses() -> list[str]:
    sure, wrong = (
        metrics.scores([1], two_classes([p]))["log_loss"] for p in (0.9, 0.1)
    )
    brier = metrics.scores([0], [[0.7, 0.2, 0.1]])["brier"]
    return [f"log-loss {sure:.2f}.", f"log-loss {wrong:.2f}.", f"= {brier:.2f}."]


def threshold() -> list[str]:
    score = np.array([0.9, 0.8, 0.7, 0.6, 0.3, 0.5, 0.2, 0.1])
    return [f"probability: {at_sensitivity(np.arange(8) < 5, score, 0.8):.2f}."]


def net_benefit() -> list[str]:
    curve = decision_curves(*STUDY, np.arange(500), ["healthy", "ill"])[ILL]
    (at,) = np.flatnonzero(np.isclose(THRESHOLDS, 0.1))
    of_model, of_all = curve.benefit[at], curve.act_on_all[at]
    return [f"= {of_model:.3f}", f"= {of_all:.3f}", f"= {of_model - of_all:.3f}"]


def risks() -> list[str]:
    truth = np.ones(10, int)
    sure = np.linspace(0.95, 0.6, 10)
    wrong = np.isin(np.arange(1, 11), [5, 9, 10])
    result = risk_coverage(
        truth, two_classes(list(np.where(wrong, 1 - sure, sure))), np.arange(10)
    )
    return [f"= {result.risk[-1]:.2f}", f"= {1 - result.deferrals[1].accuracy.value}"]


def interval() -> list[str]:
    whole, half = (
        stats.binomtest(right, n).proportion_ci(method="wilson")
        for right, n in ((90, 100), (45, 50))
    )
    return [f"{one.low:.2f} to {one.high:.2f}" for one in (whole, half)]


def learning_curve() -> list[str]:
    error = 0.05 + 0.8 * np.array([100, 200, 400]) ** -0.5
    gains = -100 * np.diff(error)
    return [*(f"{e:.3f}" for e in error), *(f"{gain:.1f}" for gain in gains)]


def winner() -> list[str]:
    error = np.sqrt(0.8 * 0.2 / 200)
    step = np.linspace(-8, 8, 10_001)
    best = np.trapezoid(step * np.gradient(stats.norm.cdf(step) ** 10, step), step)
    return [f"error is {error:.3f}", f"shows {0.8 + best * error:.2f}"]


def kappa() -> list[str]:
    one, two = np.repeat([[1, 0, 1, 0], [1, 0, 0, 1]], [20, 60, 10, 10], axis=1)
    return [f"= {metrics.cohen_kappa(one, two, np.arange(100)).value:.2f}"]


EXAMPLES: dict[str, Callable[[], list[str]]] = {
    "Sensitivity and specificity": lambda: [
        f"{name} {part} = {metrics.per_class(*STUDY)[name][ILL]:.2f}"
        for name, part in (("sensitivity", "90 / 100"), ("specificity", "360 / 400"))
    ],
    "Positive and negative predictive value": predictive_values,
    "Accuracy, balanced accuracy, F1": accuracies,
    "Area under the ROC curve (AUC)": area,
    "Calibration and its error (ECE)": calibration_error,
    "Log-loss and Brier score": losses,
    "Operating point": threshold,
    "Net benefit": net_benefit,
    "Risk and coverage": risks,
    "Refusal": lambda: [f"about {0.01 * 1000:.0f}"],
    "Confidence interval, over patients": interval,
    "Out-of-fold and test set": lambda: [f"folds of {80 // 5}", f"model of {80 - 16}"],
    "Learning curve": learning_curve,
    "Difference and paired test": lambda: [
        f"= {sign_flip(FIRST, SECOND, np.arange(100)):.3f}"
    ],
    "Correction for many comparisons (Holm)": lambda: [
        "{}, {} and {}.".format(*(f"{p:.2f}" for p in holm([0.01, 0.02, 0.04])))
    ],
    "Probability of not being better": lambda: [f"{stats.beta.cdf(0.5, 10, 3):.3f}"],
    "Interval of ranks": lambda: [f"1 to {1 + 3}"],
    "Optimism of the winner": winner,
    "Cohen's kappa": kappa,
}


@pytest.mark.parametrize("heading", EXAMPLES)
def test_examples_are_right(heading: str) -> None:
    """Each figure of an example is the one that the functions give."""
    page = read("docs/explanations/statistics.md")
    text = page.split(f"### {heading}\n")[1].split("\n##")[0]
    text = " ".join(text.split("*Example.*")[1].split()).lower()
    for figure in EXAMPLES[heading]():
        assert figure.lower() in text


def test_every_entry_has_an_example() -> None:
    """The page has an example under each heading, and this file checks it."""
    page = read("docs/explanations/statistics.md")
    assert re.findall(r"^### (.*)$", page, re.MULTILINE) == list(EXAMPLES)
    assert page.count("*Example.*") == len(EXAMPLES)
