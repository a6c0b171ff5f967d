"""Topics of CLAIM 2024 and TRIPOD+AI that the records can answer, and the others.

CLAIM: Tejani et al., Radiology: Artificial Intelligence 2024. TRIPOD+AI: Collins et
al., BMJ 2024. Topics are given without the numbers of their items.
"""

from collections.abc import Callable, Sequence

from featcache.commands.audit.base import FINDING, Finding
from featcache.commands.audit.context import AuditContext, out_of_fold, right
from featcache.core.text import markdown_cell
from featcache.evaluation import metrics
from featcache.evaluation.external import Validation
from featcache.evaluation.runs import TEST, Run

AUTHOR = "*for the author*"
_BOTH, _CLAIM, _TRIPOD = "CLAIM, TRIPOD+AI", "CLAIM", "TRIPOD+AI"


def markdown(context: AuditContext, findings: Sequence[Finding]) -> str:
    """A table with a row a topic: guideline, topic, what the records say.

    Args:
        context: The dataset and its runs.
        findings: What the checks found.
    """
    rows = [(guide, topic, _cell(fill(context))) for guide, topic, fill in _FILLED]
    rows.append((_BOTH, "Limitations and sources of bias", _finding_titles(findings)))
    rows += [(guide, topic, AUTHOR) for guide, topic in _AUTHORS]
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([
        f"# Reporting checklist of {context.manifest.dataset}",
        "",
        "Topics of CLAIM 2024 and TRIPOD+AI. Answers that follow from the records are "
        "filled in; check them against the text of the guidelines.",
        "",
        "| guideline | topic | answer |",
        "| --- | --- | --- |",
        *lines,
        "",
    ])  # fmt: skip


def _cell(text: str) -> str:
    return markdown_cell(text) or AUTHOR


def _data(context: AuditContext) -> str:
    counts = context.images["label"].value_counts().sort_index()
    counts_text = ", ".join(f"{n} {label}" for label, n in counts.items())
    return (
        f"{len(context.images)} images of {context.images['group'].nunique()} groups: "
        f"{counts_text}. "
        f"{AUTHOR[1:-1].capitalize()}: where and when the images were acquired."
    )


def _excluded(context: AuditContext) -> str:
    counts = context.manifest.table["status"].value_counts()
    counts_text = ", ".join(
        f"{counts.get(s, 0)} {s}" for s in ("unreadable", "duplicate")
    )
    return f"Excluded from {len(context.manifest.table)} files: {counts_text}."


def _of_best(
    answer: Callable[[AuditContext, Run], str],
) -> Callable[[AuditContext], str]:
    """An answer about the best run; empty where there is no run."""
    return lambda context: answer(context, context.best) if context.best else ""


def _split(_: AuditContext, best: Run) -> str:
    about, table = best.record.split, best.table
    tested = int((table["split"] == TEST).sum())
    test = f"{tested} images in a test set" if tested else "no test set"
    return (
        f"Split {about.name}: {len(out_of_fold(best))} images in "
        f"{table.loc[table['fold'] >= 0, 'fold'].nunique()} folds, {test}; disjoint by "
        f"group ({about.group_by})."
    )


def _model(_: AuditContext, best: Run) -> str:
    record = best.record
    return (
        f"Head {record.head} on frozen features of {record.backbone} (weights "
        f"{record.weights}); run {best.run_id}."
    )


def _software(context: AuditContext) -> str:
    versions = context.best.record.versions if context.best else {}
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def _selection(context: AuditContext, _: Run) -> str:
    return (
        f"The best of {len(context.runs)} runs by out-of-fold accuracy; settings were "
        "selected inside the training folds."
    )


def _performance(_: AuditContext, best: Run) -> str:
    table, hits = out_of_fold(best), right(best)
    low, high = metrics.group_bootstrap(hits, table["group"])
    return (
        f"Out-of-fold accuracy {hits.mean():.3f} [{low:.3f}, {high:.3f}], 95 % "
        "interval over groups; all measures: featcache compare."
    )


def _validated(
    answer: Callable[[Validation], str],
) -> Callable[[AuditContext], str]:
    """An answer about each external validation; empty where there is none."""
    return lambda context: " ".join(
        text for one in _of_this_run(context) if (text := answer(one))
    )


def _of_this_run(context: AuditContext) -> list[Validation]:
    run_id = context.best.run_id if context.best else ""
    return [one.result for one in context.validations if one.run_id == run_id]


def _testing(context: AuditContext) -> str:
    if _of_this_run(context):
        return f"Internal, and external: {_validated(_external_set)(context)}"
    others = len({one.run_id for one in context.validations})
    of_others = f", but that of {others} other{'s' * (others > 1)}" if others else ""
    return (
        "Internal: within this dataset. The records contain no external testing of "
        f"this run{of_others}."
    )


def _external_set(result: Validation) -> str:
    overlap = result.excluded_overlap
    looked = "" if overlap.near_duplicates_checked else ", near-duplicates not checked"
    return (
        f"{result.dataset}, {result.n} images of {result.n_groups} groups (by "
        f"{result.group_by}), {overlap.n} left out as they were in training{looked}."
    )


def _external_performance(result: Validation) -> str:
    scores = result.as_found
    text = (
        f"{result.dataset}, as found: accuracy {scores.accuracy}, AUC {scores.auc}, "
        f"Brier score {scores.brier}"
    )
    if inside := result.difference.get("accuracy"):
        text += f"; accuracy minus internal {inside}"
    return f"{text}."


def _external_calibration(result: Validation) -> str:
    lines = [
        f"{name} slope {one.calibration_slope}, intercept {one.calibration_intercept}"
        for name, one in result.as_found.per_class.items()
    ]
    return f"{result.dataset}: {'; '.join(lines)}."


def _external_points(result: Validation) -> str:
    lines = [
        f"{point.class_name} from {point.threshold:.3f}: sensitivity "
        f"{point.sensitivity}, specificity {point.specificity}"
        for point in result.as_found.points
        if point.kind == "sensitivity"
    ]
    return f"{result.dataset}: {'; '.join(lines)}." if lines else ""


def _set_differences(result: Validation) -> str:
    correction, by_class = result.prevalence_corrected, result.as_found.per_class
    lines = [
        f"{name} {share:.3f} in training, "
        f"{by_class[name].n / result.n if name in by_class else 0:.3f} there"
        for name, share in correction.training.items()
    ]
    return f"{result.dataset}: {'; '.join(lines)}; share refused as unlike the " + (
        f"training images {result.refused_share}."
    )


def _updating(result: Validation) -> str:
    scores = result.recalibrated.scores
    if scores is None:
        return f"{result.dataset}: not applicable ({result.recalibrated.reason})."
    return (
        f"{result.dataset}, recalibrated on other groups of it: accuracy "
        f"{scores.accuracy}, log-loss {scores.log_loss} (as found "
        f"{result.as_found.log_loss})."
    )


def _external_size(result: Validation) -> str:
    size = result.as_found.needed["accuracy"]
    if size.groups is None:
        return ""
    return (
        f"{result.dataset}: {result.n_groups} groups; an accuracy within 5 points "
        f"either way takes {size.groups}. {AUTHOR[1:-1].capitalize()}: the training "
        "set."
    )


def _fairness(result: Validation) -> str:
    lines = []
    for table in result.subgroups:
        levels = [f"{one.value} {one.scores['accuracy']}" for one in table.levels]
        p = table.heterogeneity["accuracy"].p_holm
        test = f" (p = {p:.3g}, Holm)" if p == p else ""
        lines.append(f"accuracy by {table.column}: {', '.join(levels)}{test}")
    return f"{result.dataset}: {'; '.join(lines)}." if lines else ""


def _finding_titles(findings: Sequence[Finding]) -> str:
    fired = [f.in_words for f in findings if f.status == FINDING]
    return _cell(f"featcache audit: {'; '.join(fired) or 'nothing'}.")


_FILLED: tuple[tuple[str, str, Callable[[AuditContext], str]], ...] = (
    (_BOTH, "Data: number of images, groups and classes", _data),
    (_BOTH, "Excluded data, and why", _excluded),
    (_BOTH, "Partitions, and the level at which they are disjoint", _of_best(_split)),
    (_BOTH, "Model", _of_best(_model)),
    (_CLAIM, "Software and versions", _software),
    (_BOTH, "Selection of the final model", _of_best(_selection)),
    (_BOTH, "Performance with uncertainty", _of_best(_performance)),
    (_BOTH, "Internal or external testing", _testing),
    (_BOTH, "Performance on external data", _validated(_external_performance)),
    (_BOTH, "Calibration on external data", _validated(_external_calibration)),
    (_BOTH, "Performance at frozen thresholds", _validated(_external_points)),
    (
        _TRIPOD,
        "Differences between development and evaluation data",
        _validated(_set_differences),
    ),
    (_TRIPOD, "Model updating, such as recalibration", _validated(_updating)),
    (_BOTH, "Sample size and its justification", _validated(_external_size)),
    (_TRIPOD, "Fairness", _validated(_fairness)),
)
_AUTHORS = (
    (_BOTH, "Title and abstract: artificial intelligence, study design"),
    (_BOTH, "Background, intended use, objectives"),
    (_BOTH, "Eligibility of participants, setting, dates"),
    (
        _BOTH,
        "Reference standard: who labelled the images, how, and how well they agree",
    ),
    (_BOTH, "Missing data"),
    (_BOTH, "Demographic and clinical characteristics of each partition"),
    (_TRIPOD, "Patient and public involvement"),
    (_BOTH, "Ethics, registration, protocol, funding, conflicts of interest"),
    (_BOTH, "Availability of data, code and model"),
)
