"""What checks are made of, and what they return."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import pandas as pd

from featcache.commands.audit.context import AuditContext, NotApplicable
from featcache.core.text import counted, some

__all__ = [
    "FINDING",
    "ISSUE",
    "MOST",
    "NOT_APPLICABLE",
    "PASSED",
    "TIP",
    "Answer",
    "Check",
    "Finding",
    "NotApplicable",
    "Row",
    "Tally",
    "conclude",
    "in_splits",
    "listed",
    "of_all",
    "records",
]
ISSUE, TIP = "issue", "tip"
FINDING, PASSED, NOT_APPLICABLE = "finding", "passed", "not-applicable"
MOST = 100  # rows of evidence that a check hands over

Row = dict[str, Any]


@dataclass(frozen=True)
class Answer:
    """The result of a check.

    Attributes:
        status: "finding", "passed" or "not-applicable".
        message: In one or two sentences, with the numbers.
        evidence: Rows behind it, the gravest first; at most `MOST`.
        severity: That of this answer, where it is another than the check's.
    """

    status: str
    message: str
    evidence: list[Row] = field(default_factory=list)
    severity: str = ""


@dataclass
class Tally:
    """Rows that come some at a time, the gravest first.

    Attributes:
        count: How many came.
        rows: The first `MOST` as evidence.
    """

    count: int = 0
    rows: list[Row] = field(default_factory=list)

    def add(self, table: pd.DataFrame) -> None:
        """Counts rows, and keeps those that are among the first."""
        self.count += len(table)
        self.rows += records(table.head(MOST - len(self.rows)))


@dataclass(frozen=True)
class Check:
    """A question that is put to every dataset.

    Attributes:
        code: For good, such as "FC001"; an anchor of docs/explanations/audit.md.
        title: A question; a finding answers it with yes.
        severity: "issue" (figures may be wrong) or "tip" (look at it).
        run: From a dataset with its runs to an answer.
    """

    code: str
    title: str
    severity: Literal["issue", "tip"]
    run: Callable[[AuditContext], Answer]


@dataclass(frozen=True)
class Finding:
    """The answer to one check.

    Attributes:
        code: Of the check, as the next two.
        title: What was looked for.
        severity: "issue" or "tip".
        status: "finding", "passed" or "not-applicable".
        message: What was found.
        evidence: Rows behind it.
    """

    code: str
    title: str
    severity: str
    status: str
    message: str
    evidence: list[Row]

    @property
    def in_words(self) -> str:
        """A finding in a list: "FC001 are files byte-identical? yes"."""
        return named(self.code, self.title)

    @property
    def is_issue(self) -> bool:
        """Whether it is a finding of an issue."""
        return self.status == FINDING and self.severity == ISSUE


def named(code: str, title: str) -> str:
    """A finding in a list: the question, answered."""
    return f"{code} {title[0].lower()}{title[1:]} yes"


def of_all(count: int, total: int, many: str, one: str, several: str) -> str:
    """How many of all do something: ``1 of 9 files is``, ``2 of 9 files are``.

    Args:
        count: How many.
        total: Of how many.
        many: What they are called; of one in all without the "s".
        one: The verb, of one, or of a single one in all.
        several: The verb, of several.
    """
    name = many if total != 1 else many.removesuffix("s")
    return f"{count} of {total} {name} {one if 1 in (count, total) else several}"


def conclude(is_finding: bool, message: str, evidence: Sequence[Row] = ()) -> Answer:
    """A finding, or a check that was passed."""
    return Answer(FINDING if is_finding else PASSED, message, list(evidence)[:MOST])


def records(table: pd.DataFrame) -> list[Row]:
    """The first `MOST` rows of a table as evidence."""
    first = table.head(MOST).to_dict("records")
    return [{str(name): row[name] for name in row} for row in first]


def listed(names: Sequence[object], limit: int = 3) -> str:
    """The first few names, and how many more."""
    return some([str(name) for name in names], limit)


def behind_colon(names: Sequence[object], limit: int = 3) -> str:
    """The end of a sentence: the first few names behind a colon, if there are any."""
    return f": {listed(names, limit)}." if names else "."


def in_splits(context: AuditContext, rows: Sequence[Row]) -> str:
    """How many of the splits the rows are of, and which."""
    names = dict.fromkeys(str(row["split"]).removesuffix(".json") for row in rows)
    return f"in {len(names)} of {counted(len(context.splits), 'split')}" + (
        f" ({listed([*names])})" if names else ""
    )
