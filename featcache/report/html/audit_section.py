"""The audit's section: what ``featcache audit`` recorded, with pictures."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pandas as pd

from featcache.commands.audit import (
    FILE,
    FINDING,
    ISSUE,
    NOT_APPLICABLE,
    PASSED,
    SCHEMA,
    TIP,
)
from featcache.core import records
from featcache.core.io import read_json
from featcache.core.times import instant
from featcache.errors import FeatcacheError
from featcache.evaluation import runs
from featcache.evaluation.runs import PROBABILITY
from featcache.report.html.context import ReportContext, without_folders

MOST_CANDIDATES, MOST_PAIRS = 24, 12
_CANDIDATES = "FC040"
_PAIRS = ("FC002", "FC005", "FC003", "FC006")  # the gravest first
_ORDER = {FINDING: 0, NOT_APPLICABLE: 1, PASSED: 2}

Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class _Check:
    """One of the checks in ``audit.json``."""

    code: str
    title: str
    severity: str
    status: str
    message: str
    evidence: list[Row]


@dataclass(frozen=True, kw_only=True)
class _Record:
    """The content of ``audit.json``."""

    schema: int
    created: str
    run_id: str | None
    checks: list[_Check]


@dataclass(frozen=True)
class CheckResult:
    """The result of one check.

    Attributes:
        code: Of the check.
        title: What was looked for.
        severity: "issue" or "tip".
        status: "finding", "passed" or "not-applicable".
        message: What was found.
    """

    code: str
    title: str
    severity: str
    status: str
    message: str


@dataclass(frozen=True)
class Candidate:
    """An image whose label the audit's run contradicts."""

    image_id: str
    path: str
    label: str
    suggested: str
    chances: list[tuple[str, float]]


@dataclass(frozen=True)
class Side:
    """One image of a pair."""

    image_id: str
    path: str
    label: str


@dataclass(frozen=True)
class Pair:
    """Two images that look the same, and which checks say so."""

    sides: tuple[Side, Side]
    codes: list[str]
    text: str


@dataclass(frozen=True)
class AuditSection:
    """What the page shows of an audit; see the template.

    Attributes:
        created: When.
        run_id: The run that checks of runs are about; empty without one.
        is_best: Whether that is the best run of the page.
        newer_runs: Runs of the page that were made after it.
        counts: Words and how many checks they stand for.
        answers: All checks, findings of issues first.
        candidates: The first label candidates.
        all_candidates: How many are recorded.
        pairs: The first near-duplicates.
        all_pairs: How many are recorded.
    """

    created: str
    run_id: str
    is_best: bool
    newer_runs: int
    counts: list[tuple[str, int]]
    answers: list[CheckResult]
    candidates: list[Candidate]
    all_candidates: int
    pairs: list[Pair]
    all_pairs: int

    @property
    def issues(self) -> list[CheckResult]:
        """Findings that can make figures wrong."""
        return [a for a in self.answers if (a.status, a.severity) == (FINDING, ISSUE)]

    @property
    def image_ids(self) -> list[str]:
        """Images to show."""
        sides = [side.image_id for pair in self.pairs for side in pair.sides]
        return [one.image_id for one in self.candidates] + sides


def read_audit(context: ReportContext, best: str) -> AuditSection | None:
    """Reads the audit; None without one, or with a broken one, which is listed.

    Args:
        context: The records.
        best: run_id of the best run of the page that is no control.
    """
    path = context.reports / FILE
    if not path.is_file():
        return None
    try:
        record = records.from_json(_Record, read_json(path))
        if record.schema != SCHEMA:
            raise ValueError(f"schema {record.schema}")
        return _section(context, record, best)
    except (OSError, ValueError, KeyError, TypeError) as error:
        context.missing.append(f"{FILE}, which cannot be used ({error})")
        return None


def _section(context: ReportContext, record: _Record, best: str) -> AuditSection:
    run_id, made = record.run_id or "", instant(record.created)
    answers = sorted(map(_answer, record.checks), key=_gravest_first)
    evidence = {check.code: check.evidence for check in record.checks}
    candidates = evidence.get(_CANDIDATES, [])
    chances = _chances(context, run_id)
    pairs = list(_pairs(evidence))
    return AuditSection(
        record.created,
        run_id,
        run_id == best,
        sum(instant(run.record.created) > made for run in context.runs),
        _counts(answers),
        answers,
        [_candidate(row, chances) for row in candidates[:MOST_CANDIDATES]],
        len(candidates),
        pairs[:MOST_PAIRS],
        len(pairs),
    )


def _answer(check: _Check) -> CheckResult:
    return CheckResult(
        check.code,
        check.title,
        check.severity,
        check.status,
        without_folders(check.message),
    )


def _gravest_first(answer: CheckResult) -> tuple[int, bool, str]:
    return _ORDER.get(answer.status, 0), answer.severity != ISSUE, answer.code


def _counts(answers: list[CheckResult]) -> list[tuple[str, int]]:
    """How many checks found an issue or a tip, passed, or were not applicable."""
    names = {
        ISSUE: "issues", TIP: "tips", PASSED: "passed",
        NOT_APPLICABLE: "not applicable",
    }  # fmt: skip
    counts = Counter(a.severity if a.status == FINDING else a.status for a in answers)
    pairs = [(name, counts[kind]) for kind, name in names.items()]
    return [(name.removesuffix("s") if n == 1 else name, n) for name, n in pairs]


def _chances(context: ReportContext, run_id: str) -> pd.DataFrame:
    """Out-of-fold probabilities of the audit's run, by image_id, a column a class."""
    try:
        known = {run.run_id: run for run in context.runs}
        run = known.get(run_id) or runs.load(context.reports / "runs" / run_id)
        columns = {PROBABILITY + name: name for name in run.classes}
        return run.table.set_index("image_id")[[*columns]].rename(columns=columns)
    except FeatcacheError:
        return pd.DataFrame()


def _candidate(row: Row, chances: pd.DataFrame) -> Candidate:
    image_id, label = str(row["image_id"]), str(row["label"])
    probabilities = [(label, float(row["probability"]))]
    if image_id in chances.index:
        probabilities = [
            (str(k), float(p)) for k, p in chances.T[image_id].to_dict().items()
        ]
    return Candidate(
        image_id, str(row["path"]), label, str(row["suggested"]), probabilities
    )


def _pairs(evidence: dict[str, list[Row]]) -> Iterator[Pair]:
    """Each pair once, with all checks that name it; those within a group last."""
    by_pair: dict[tuple[str, str], list[tuple[str, Row]]] = {}
    for code in _PAIRS:
        for row in evidence.get(code, []):
            if "image_id_a" in row and "image_id_b" in row:
                key = str(row["image_id_a"]), str(row["image_id_b"])
                by_pair.setdefault(key, []).append((code, row))
    parted = sorted(by_pair.values(), key=lambda rows: not _matters(rows))
    for rows in parted:
        codes = list(dict.fromkeys(code for code, _ in rows))
        sides = _side(rows[0][1], "a"), _side(rows[0][1], "b")
        yield Pair(sides, codes, _pair_text(rows))


def _matters(rows: list[tuple[str, Row]]) -> bool:
    """Whether a split may part them, does, or their labels differ."""
    row = rows[0][1]
    codes = {code for code, _ in rows}
    return bool(codes & {"FC002", "FC005"}) or row["group_a"] != row["group_b"]


def _pair_text(rows: list[tuple[str, Row]]) -> str:
    row = rows[0][1]
    alike = row["group_a"] == row["group_b"]
    facts = [f"correlation {row['correlation']:.3f}"] if row.get("correlation") else []
    facts.append("one group" if alike else "two groups")
    parts = {
        f"on both sides of {'train and test' if row['part'] == 'test' else 'two folds'}"
        for _, row in rows
        if "part" in row
    }
    return ", ".join([*facts, *sorted(parts)])


def _side(row: Row, side: str) -> Side:
    return Side(*(str(row[f"{name}_{side}"]) for name in ("image_id", "path", "label")))
