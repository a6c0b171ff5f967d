"""Topics of CLAIM 2024 and TRIPOD+AI that the records can answer, and the others.

CLAIM: Tejani et al., Radiology: Artificial Intelligence 2024. TRIPOD+AI: Collins et
al., BMJ 2024. Topics stand without the numbers of their items.
"""

from collections.abc import Callable, Sequence

from featcache.commands.audit.base import FINDING, Finding
from featcache.commands.audit.context import Case, out_of_fold, right
from featcache.evaluation import metrics
from featcache.evaluation.runs import TEST

AUTHOR = "*for the author*"
_BOTH, _CLAIM, _TRIPOD = "CLAIM, TRIPOD+AI", "CLAIM", "TRIPOD+AI"


def markdown(case: Case, findings: Sequence[Finding]) -> str:
    """A table with a row a topic: guideline, topic, what the records say.

    Args:
        case: The dataset and its runs.
        findings: What the checks found.
    """
    rows = [(guide, topic, _cell(fill(case))) for guide, topic, fill in _FILLED]
    rows.append((_BOTH, "Limitations and sources of bias", _found(findings)))
    rows += [(guide, topic, AUTHOR) for guide, topic in _AUTHORS]
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([
        f"# Reporting checklist of {case.manifest.dataset}",
        "",
        "Topics of CLAIM 2024 and TRIPOD+AI. What the records tell is filled in; check "
        "it against the text of the guideline, which numbers its items.",
        "",
        "| guideline | topic | answer |",
        "| --- | --- | --- |",
        *lines,
        "",
    ])  # fmt: skip


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split()) or AUTHOR


def _data(case: Case) -> str:
    counts = case.images["label"].value_counts().sort_index()
    told = ", ".join(f"{n} {label}" for label, n in counts.items())
    return (
        f"{len(case.images)} images of {case.images['group'].nunique()} groups: "
        f"{told}. "
        f"{AUTHOR[1:-1].capitalize()}: where and when they were taken."
    )


def _excluded(case: Case) -> str:
    counts = case.manifest.table["status"].value_counts()
    told = ", ".join(f"{counts.get(s, 0)} {s}" for s in ("unreadable", "duplicate"))
    return f"Of {len(case.manifest.table)} files left out: {told}."


def _split(case: Case) -> str:
    if case.best is None:
        return ""
    about, table = case.best.record.split, case.best.table
    tested = int((table["split"] == TEST).sum())
    test = f"{tested} images in a test part" if tested else "no test part"
    return (
        f"Split {about.name}: {len(out_of_fold(case.best))} images in "
        f"{table.loc[table['fold'] >= 0, 'fold'].nunique()} folds, {test}; disjoint by "
        f"group ({about.group_by})."
    )


def _model(case: Case) -> str:
    if case.best is None:
        return ""
    record = case.best.record
    return (
        f"Head {record.head} on frozen features of {record.backbone} (weights "
        f"{record.weights}); run {case.best.run_id}."
    )


def _software(case: Case) -> str:
    versions = case.best.record.versions if case.best else {}
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def _chosen(case: Case) -> str:
    if case.best is None:
        return ""
    return (
        f"The best of {len(case.runs)} runs by out-of-fold accuracy; settings are "
        "chosen inside the training folds."
    )


def _performance(case: Case) -> str:
    if case.best is None:
        return ""
    table, hits = out_of_fold(case.best), right(case.best)
    low, high = metrics.group_bootstrap(hits, table["group"])
    return (
        f"Out-of-fold accuracy {hits.mean():.3f} [{low:.3f}, {high:.3f}], 95 % "
        "interval over groups; all measures: featcache compare."
    )


def _validation(case: Case) -> str:
    if case.best is None:
        return ""
    return "Internal: within this dataset. The records hold no external testing."


def _found(findings: Sequence[Finding]) -> str:
    fired = [f"{f.code} {f.title.lower()}" for f in findings if f.status == FINDING]
    return _cell(f"featcache audit: {'; '.join(fired) or 'nothing'}.")


_FILLED: tuple[tuple[str, str, Callable[[Case], str]], ...] = (
    (_BOTH, "Data: number of images, groups and classes", _data),
    (_BOTH, "Data left out, and why", _excluded),
    (_BOTH, "Partitions, and the level at which they are disjoint", _split),
    (_BOTH, "Model", _model),
    (_CLAIM, "Software and versions", _software),
    (_BOTH, "Choice of the final model", _chosen),
    (_BOTH, "Performance with uncertainty", _performance),
    (_BOTH, "Internal or external testing", _validation),
)
_AUTHORS = (
    (_BOTH, "Title and abstract: artificial intelligence, study design"),
    (_BOTH, "Background, intended use, objectives"),
    (_BOTH, "Eligibility of participants, setting, dates"),
    (_BOTH, "Reference standard: who labelled, how, how well they agree"),
    (_BOTH, "Sample size: why this many"),
    (_BOTH, "Missing data"),
    (_BOTH, "Demographic and clinical characteristics of each partition"),
    (_TRIPOD, "Fairness"),
    (_TRIPOD, "Patient and public involvement"),
    (_BOTH, "Ethics, registration, protocol, funding, conflicts of interest"),
    (_BOTH, "Availability of data, code and model"),
)
