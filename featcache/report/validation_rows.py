"""A validation as rows of figures and as sentences, for the terminal and the page."""

from dataclasses import dataclass

from featcache.core.text import counted
from featcache.dataset.perceptual_hashes import BITS
from featcache.evaluation.external import Recalibrated, Scores, Subgroups, Validation
from featcache.evaluation.figures import Figure

COLUMNS = ("as found", "prevalence corrected", "recalibrated", "as found - internal")
OVERALL = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "auc": "AUC",
    "log_loss": "log-loss",
    "brier": "Brier score",
    "ece": "calibration error",
}
_OF_CLASS = {
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "auc": "AUC",
    "calibration_intercept": "calibration intercept",
    "calibration_slope": "calibration slope",
}
_KINDS = {
    "sensitivity": "high sensitivity",
    "youden": "Youden",
    "rule_out": "rule out",
    "rule_in": "rule in",
}
_SMALL = 0.001  # p-values below it are not written out


@dataclass(frozen=True)
class ScoreRow:
    """A score in the four `COLUMNS`; None where it is not applicable."""

    title: str
    figures: list[Figure | None]


@dataclass(frozen=True)
class PointRow:
    """An operating point: its rates, and how these differ from internal ones."""

    class_name: str
    kind: str
    threshold: float
    figures: list[Figure | None]


@dataclass(frozen=True)
class PrevalenceRow:
    """Shares of a class: in training, estimated without labels, and observed."""

    class_name: str
    training: float
    estimated: Figure
    observed: float


def score_rows(result: Validation) -> list[ScoreRow]:
    """The scores over all classes."""
    return [
        ScoreRow(
            title,
            [getattr(one, name) if one else None for one in _columns(result)]
            + [result.difference.get(name)],
        )
        for name, title in OVERALL.items()
    ]


def class_rows(result: Validation) -> dict[str, list[ScoreRow]]:
    """The scores of each class that the set has."""
    return {
        label: [
            ScoreRow(
                title,
                [
                    getattr(one.per_class[label], name) if one else None
                    for one in _columns(result)
                ]
                + [result.difference.get(f"{name} of {label}")],
            )
            for name, title in _OF_CLASS.items()
        ]
        for label in result.as_found.per_class
    }


def _columns(result: Validation) -> list[Scores | None]:
    corrected = result.prevalence_corrected.scores
    return [result.as_found, corrected, result.recalibrated.scores]


def point_rows(result: Validation) -> list[PointRow]:
    """The frozen thresholds, as found, class by class."""
    rows, order = [], result.classes.index
    for point in sorted(result.as_found.points, key=lambda p: order(p.class_name)):
        where = f"of {point.class_name} at {point.kind}"
        figures: list[Figure | None] = [point.sensitivity, point.specificity]
        figures += [
            result.difference.get(f"{rate} {where}")
            for rate in ("sensitivity", "specificity")
        ]
        kind = _KINDS[point.kind]
        rows.append(PointRow(point.class_name, kind, point.threshold, figures))
    return rows


def prevalence_rows(result: Validation) -> list[PrevalenceRow]:
    """The share of each class."""
    correction, by_class = result.prevalence_corrected, result.as_found.per_class
    return [
        PrevalenceRow(
            name,
            correction.training[name],
            figure,
            by_class[name].n / result.n if name in by_class else 0.0,
        )
        for name, figure in correction.estimated.items()
    ]


def heterogeneity(table: Subgroups) -> list[str]:
    """The p-value of each score of a table of subgroups; empty where there is none."""
    return [
        "" if test.reason else f"p {_p_value(test.p_holm)} (Holm)"
        for test in table.heterogeneity.values()
    ]


def _p_value(p: float) -> str:
    return f"< {_SMALL:g}" if p < _SMALL else f"= {p:.3f}"


def summary(result: Validation) -> str:
    """Which images, how many of them were in training, and how many are not new."""
    text = (
        f"{result.dataset}: {result.n} images in {result.n_groups} groups (by "
        f"{result.group_by}). {overlap_text(result)} {result.own_in_words}"
    )
    return text.rstrip()


def overlap_text(result: Validation) -> str:
    """How many images were in training, in a sentence."""
    overlap = result.excluded_overlap
    text = "None was in training"
    if overlap.n:
        parts = [
            (overlap.identical, "in training"),
            (overlap.near_duplicates, "probably the same picture as a training image"),
            (overlap.same_group, "in the group of such an image"),
        ]
        counts = ", ".join(f"{n} {what}" for n, what in parts if n)
        text = f"{overlap.n} more {_are(overlap.n)} left out: {counts}"
    if overlap.near_duplicates_checked:
        return f"{text}."
    return (
        f"{text}; near-duplicates were not looked for, because the training images "
        "could not be read and no hashes of them were kept."
    )


def overlap_lines(result: Validation, most: int) -> list[str]:
    """The first images that were left out, a line each, and how many more."""
    images = result.excluded_overlap.images
    lines = []
    for one in images[:most]:
        text = f"{one.path}: {one.how}"
        if one.training_id:
            link = "to" if one.bits is None else "of"
            text += f" {link} training image {one.training_id[:12]}"
        if one.bits is not None:
            text += f" ({one.bits} of {BITS} bits of their hashes differ)"
        lines.append(text)
    more = len(images) - most
    return lines + ([f"{more} more"] if more > 0 else [])


def notes(result: Validation) -> list[str]:
    """What to know of the figures, a sentence each."""
    scores, recalibrated = result.as_found, result.recalibrated
    lines = [_absent_classes(scores)] if scores.absent else []
    if not result.prevalence_corrected.converged:
        lines.append("The estimate of the prevalence did not converge.")
    lines.append(_recalibration(recalibrated))
    lines.append(f"Share refused: {result.refused_share}.")
    if result.without_refused:
        without = result.without_refused
        lines.append(f"Without these: accuracy {without.accuracy}, AUC {without.auc}.")
    if result.unreadable:
        n = result.unreadable
        lines.append(f"{counted(n, 'image')} cannot be read.")
    return lines + _sizes(scores)


def _absent_classes(scores: Scores) -> str:
    meaning = "Probabilities are those given the other classes. "
    return (
        f"No image of {', '.join(scores.absent)}. "
        f"{meaning if scores.conditional else ''}"
        f"An absent class is predicted for {scores.predicted_absent}."
    )


def _recalibration(recalibrated: Recalibrated) -> str:
    if recalibrated.reason:
        return f"Recalibration is not applicable: {recalibrated.reason}."
    where = f"on the other of {recalibrated.folds} folds of groups"
    if recalibrated.method == "none":
        return f"Recalibrated {where}; on all of them, no method is an improvement."
    return f"Recalibrated by {recalibrated.method} {where}."


def _sizes(scores: Scores) -> list[str]:
    size = scores.needed["accuracy"]
    if size.groups is None or size.images is None:
        return []
    return [
        "To know the accuracy within 5 points either way takes "
        f"{counted(size.groups, 'group')} ({counted(size.images, 'image')})."
    ]


def _are(n: int) -> str:
    return "is" if n == 1 else "are"


def text_of(figure: Figure | None, none: str = "n/a") -> str:
    """``0.912 (0.870-0.943)``; without a number or an interval, a word for it."""
    if figure is None or not figure.known:
        return none
    return f"{figure.value:.3f} ({none})" if figure.reason else str(figure)


def short_text_of(figure: Figure | None) -> str:
    """``0.912 (0.87-0.94)`` or ``-0.46 (-0.71, -0.20)``: 20 characters or so."""
    if figure is None or not figure.known or figure.reason:
        return text_of(figure)
    value, low, high = figure.value, figure.low, figure.high
    if low < 0:
        return f"{value:.2f} ({low:.2f}, {high:.2f})"
    decimals = 3 if value < 10 else 2
    return f"{value:.{decimals}f} ({low:.2f}-{high:.2f})"
