"""A validation as tables on a terminal."""

from typing import TYPE_CHECKING

from featcache.cli.output import print_table, show

if TYPE_CHECKING:
    from featcache.commands.validate import Validation
    from featcache.evaluation.external import Scores, Subgroups
    from featcache.evaluation.figures import Figure

_OVERALL = {
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
_NONE = "n/a"


def print_validation(result: "Validation") -> None:
    """Prints the three columns of scores, operating points, subgroups and notes."""
    show(
        f"{result.dataset}: {result.n} images in {result.n_groups} groups. "
        f"{_overlap(result)}"
    )
    _print_scores(result)
    if result.as_found.points:
        _print_points(result.as_found)
    for column in result.subgroups:
        _print_subgroups(column)
    for line in _notes(result):
        show(line)


def _overlap(result: "Validation") -> str:
    overlap = result.excluded_overlap
    text = "None was in training" if not overlap.n else (
        f"{overlap.n} more are left out: {overlap.identical} were in training, "
        f"{overlap.near_duplicates} are near-duplicates of such images, "
        f"{overlap.same_group} are in the groups of these"
    )  # fmt: skip
    if overlap.near_duplicates_checked:
        return f"{text}."
    return f"{text}; near-duplicates were not looked for."


def _print_scores(result: "Validation") -> None:
    plain, corrected = result.as_found, result.prevalence_corrected.scores
    columns = [plain, corrected, result.recalibrated.scores]
    rows = [
        [title, *(_cell(getattr(one, name) if one else None) for one in columns),
         _cell(result.difference.get(name))]
        for name, title in _OVERALL.items()
    ]  # fmt: skip
    for label in plain.per_class:
        rows += [
            [f"{title} of {label}",
             *(_cell(getattr(one.per_class[label], name) if one else None)
               for one in columns),
             _cell(result.difference.get(f"{name} of {label}"))]
            for name, title in _OF_CLASS.items()
        ]  # fmt: skip
    headings = ["score", "as found", "prevalence corrected", "recalibrated"]
    print_table(
        [(name, False) for name in (*headings, "as found - internal")],
        rows,
        lines_before=[len(_OVERALL)],
    )


def _print_points(scores: "Scores") -> None:
    rows = [
        [
            point.class_name,
            point.kind.replace("_", " "),
            f"{point.threshold:.3f}",
            _cell(point.sensitivity),
            _cell(point.specificity),
        ]
        for point in scores.points
    ]
    headings = ("class", "operating point", "threshold", "sensitivity", "specificity")
    print_table([(name, name == "threshold") for name in headings], rows)


def _print_subgroups(table: "Subgroups") -> None:
    rows = []
    for level in table.levels:
        cells = [_cell(figure) for figure in level.scores.values()]
        rows.append([level.value, str(level.n), str(level.n_groups), *cells])
    tests = table.heterogeneity.values()
    rows.append(
        ["heterogeneity", "", ""]
        + [_NONE if test.reason else f"p = {test.p_holm:.3g} (Holm)" for test in tests]
    )
    titles = [_OVERALL[name] for name in table.heterogeneity]
    print_table(
        [(table.column, False), ("images", True), ("groups", True)]
        + [(title, False) for title in titles],
        rows,
        lines_before=[len(rows) - 1],
    )


def _notes(result: "Validation") -> list[str]:
    scores = result.as_found
    lines = []
    if scores.absent:
        lines.append(
            f"No image of {', '.join(scores.absent)}: "
            + (
                "probabilities are those given the other classes; "
                if scores.conditional
                else ""
            )
            + f"an absent class is predicted for {scores.predicted_absent}."
        )
    shares = result.prevalence_corrected.estimated.items()
    lines.append(
        "Estimated prevalence: "
        + ", ".join(f"{name} {figure}" for name, figure in shares)
        + "."
    )
    recalibrated = result.recalibrated
    lines.append(
        f"Recalibration is not applicable: {recalibrated.reason}."
        if recalibrated.reason
        else f"Recalibrated by {recalibrated.method} on the other of "
        f"{recalibrated.folds} folds of groups."
    )
    lines.append(f"Share refused: {result.refused_share}.")
    if result.without_refused:
        lines.append(f"AUC without these: {result.without_refused.auc}.")
    if result.unreadable:
        lines.append(f"{result.unreadable} images cannot be read.")
    size = scores.needed["accuracy"]
    if size.groups is not None:
        lines.append(
            f"An accuracy within 5 points either way takes {size.groups} groups "
            f"({size.images} images)."
        )
    return lines


def _cell(figure: "Figure | None") -> str:
    if figure is None or not figure.known:
        return _NONE
    return f"{figure.value:.3f} ({_NONE})" if figure.reason else str(figure)
