"""Results that show themselves in a notebook and give a table of pandas."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import pandas as pd

from featcache.api import display
from featcache.api.words import reference
from featcache.commands import audit as audits
from featcache.commands import compare as comparing
from featcache.commands.audit.base import FINDING
from featcache.commands.doctor import Check
from featcache.commands.explain import ExplainResult
from featcache.core.text import counted
from featcache.dataset.manifest import Manifest
from featcache.errors import RunError
from featcache.evaluation import references, runs
from featcache.evaluation.curves import LearningCurve
from featcache.report import curves, tables
from featcache.report.html import charts, page

MOST_PICTURES = 6  # that an explanation shows of itself


class Run(runs.Run):
    """One trained and evaluated model; see ``evaluation.runs.Run``."""

    @classmethod
    def of(cls, run: runs.Run) -> Self:
        """The same run, with a face."""
        return cls(run.folder, run.record)

    def score(self, metric: str = "accuracy", part: str = runs.TRAIN) -> float:
        """A score: out-of-fold ("train") or on the test part ("test").

        Args:
            metric: Such as "accuracy", or "accuracy_low" for the end of its interval.
            part: One of ``parts``.

        Raises:
            RunError: The run failed, or has no predictions on that part.
        """
        if part not in self.parts:
            raise RunError(
                f"scores of run {self.run_id} on part {part!r}",
                self.record.reason or f"only {', '.join(self.parts) or 'none'}",
                "Choose another run or part.",
            )
        return float(self.record.scores[part][metric])

    @property
    def parts(self) -> list[str]:
        """The parts with scores, of "train" and "test"."""
        return list(self.record.scores)

    def confusion(self) -> comparing.Confusion:
        """Its confusion matrices: rows are true classes, columns predicted."""
        return comparing.confusion(self)

    @property
    def summary(self) -> dict[str, Any]:
        """What a table says of the run; scores are accuracies."""
        about: dict[str, Any] = {
            "run": self.short_id,
            "head": self.record.head,
            "backbone": self.record.backbone,
            "views": self.record.views,
        }
        for part in self.parts:
            name = "accuracy" if part == runs.TRAIN else f"{part}_accuracy"
            for end in ("", "_low", "_high"):
                about[name + end] = self.score(f"accuracy{end}", part)
        reason = self.record.reason if self.failed else ""
        return about | {"run_id": self.run_id, "failed": reason}

    def __repr__(self) -> str:
        scores = ", ".join(f"{part} {self.score(part=part):.3f}" for part in self.parts)
        return f"<Run {self.short_id} {self.run_id}: {scores or 'failed'}>"

    def _repr_html_(self) -> str:
        about = self.summary
        texts = _texts(self)
        figures = [
            (f"accuracy, {kind}", texts[name], f"95 %: {texts[interval]}")
            for kind, name, interval in (
                ("out-of-fold", *_TEXTS[:2]),
                ("test", *_TEXTS[2:]),
            )
            if name in texts
        ]
        if self.failed:
            figures = [("failed", "–", about["failed"])]
        facts = [(name, about[name]) for name in ("head", "backbone", "views")]
        facts += [
            ("classes", ", ".join(self.classes)),
            ("split", self.record.split.name),
            ("id", self.run_id),
        ]
        return display.card(
            f"Run {self.short_id}", display.tiles(figures), display.facts(facts)
        )


class Runs(list[Run]):
    """Runs in the order they were asked for.

    Attributes:
        new_ids: Ids of those that the call made; the rest was there.
    """

    def __init__(self, evaluated: Iterable[runs.Run], new_ids: Sequence[str]) -> None:
        super().__init__(map(Run.of, evaluated))
        self.new_ids = list(new_ids)

    @property
    def frame(self) -> pd.DataFrame:
        """One row a run."""
        return pd.DataFrame([run.summary for run in self])

    def _repr_html_(self) -> str:
        rows = [run.summary | _texts(run) for run in self]
        names = ("run", "head", "backbone", "views", *_TEXTS, "failed")
        columns = [
            (name, name in _TEXTS, [str(row.get(name) or "") for row in rows])
            for name in names
            if any(row.get(name) for row in rows)
        ]
        bad = [number for number, run in enumerate(self) if run.failed]
        new = f"{len(self.new_ids)} new, {len(self) - len(self.new_ids)} existing"
        title = counted(len(self), "run")
        return display.card(title, display.table(columns, bad=bad), display.note(new))


_TEXTS = ("accuracy", "95 %", "test", "test 95 %")


def _texts(run: Run) -> dict[str, str]:
    """The accuracies of a run, as a table shows them."""
    texts = {}
    for part in run.parts:
        name, interval = _TEXTS[:2] if part == runs.TRAIN else _TEXTS[2:]
        ends = (run.score(f"accuracy_{end}", part) for end in ("low", "high"))
        texts[name] = f"{run.score(part=part):.3f}"
        texts[interval] = "–".join(f"{end:.3f}" for end in ends)
    return texts


@dataclass(frozen=True)
class Leaderboard(comparing.Leaderboard):
    """Runs that were evaluated on the same images, best first.

    Attributes:
        folder: ``reports/<dataset>``, where the runs are.
        manifest: The dataset, where its cache is at hand.
    """

    folder: Path = field(default_factory=Path)
    manifest: Manifest | None = None

    @classmethod
    def of(
        cls,
        board: comparing.Leaderboard,
        folder: Path,
        manifest: Manifest | None = None,
    ) -> Self:
        """The same leaderboard, with a face."""
        return cls(**vars(board), folder=folder, manifest=manifest)

    @property
    def frame(self) -> pd.DataFrame:
        """One row a run, with the fields of docs/reference/commands/compare.md."""
        return pd.DataFrame(json.loads(tables.to_json(self)))

    @property
    def best(self) -> Run:
        """The run of the first row."""
        run_id = str(self.frame["run_id"].iloc[0])
        return Run.of(runs.load(self.folder / "runs" / run_id))

    def to_markdown(self) -> str:
        """The table in GitHub's markdown."""
        return tables.to_markdown(self)

    def to_latex(self) -> str:
        """The table for LaTeX with the package booktabs."""
        return tables.to_latex(self)

    def to_html(self) -> str:
        """The table as a piece of HTML that brings its own style."""
        columns, text = tables.columns(self), [f"{tables.caption(self)}."]
        text += [f"{heading}." for heading in tables.parts(self).values()]
        return display.card(
            f"{self.dataset}: {counted(len(self.rows), 'run')}",
            display.table(columns, lines_before=tables.parts(self)),
            *map(display.note, text),
            *(display.note(f"Warning: {one}", warning=True) for one in self.warnings),
            *(display.note(f"Not ranked: {one}") for one in self.excluded),
        )

    def sample_size(
        self, run: Any = 1, *, half_width: float = 0.05, detect: float = 0.02
    ) -> comparing.SampleSize:
        """How many groups a run's claims would take; see docs/explanations/compare.md.

        Args:
            run: A run, its rank or short id, or a part of its id.
            half_width: Half the length of the intervals.
            detect: The difference to the other run to detect with 80 % power.

        Raises:
            RunError: No such run.
            UsageError: A length or difference that is not between 0 and 1.
        """
        meant = references.find(self.folder, reference(run), self.split)
        return comparing.sample_size(self, meant, half_width=half_width, detect=detect)

    def report(
        self,
        path: str | Path | None = None,
        *,
        force: bool = False,
        images: bool = True,
    ) -> Path:
        """Writes the whole report as one HTML page; see docs/explanations/report.md.

        Args:
            path: The file; by default ``reports/<dataset>/report.html``.
            force: Replace a file that is there and no page of featcache.
            images: Show thumbnails and heat maps of images; file names stay.

        Returns:
            The file.
        """
        file = Path(path) if path else None
        return page.write(
            self.folder,
            self,
            manifest=self.manifest,
            path=file,
            force=force,
            images=images,
        )

    def __repr__(self) -> str:
        return f"<Leaderboard of {self.dataset}: {counted(len(self.rows), 'run')}>"

    _repr_html_ = to_html


@dataclass(frozen=True)
class Curve(LearningCurve):
    """How a run's score grows with its groups; see ``featcache.curve``."""

    @property
    def frame(self) -> pd.DataFrame:
        """One row a size."""
        return pd.DataFrame([vars(point) for point in self.points])

    @property
    def text(self) -> str:
        """What it says, in sentences."""
        return "\n".join(curves.sentences(self))

    def _repr_html_(self) -> str:
        chart = charts.learning_curve(self)
        notes = [display.note(line) for line in curves.sentences(self)]
        return display.card(self.label, f"<figure>{chart.svg.text}</figure>", *notes)


@dataclass(frozen=True)
class AuditResult(audits.AuditResult):
    """What the checks say of a dataset; see ``featcache.audit``."""

    @property
    def frame(self) -> pd.DataFrame:
        """One row a check."""
        return pd.DataFrame(self.rows)

    def _repr_html_(self) -> str:
        names = ("code", "severity", "status", "title", "message")
        rows = self.rows
        columns = [(name, False, [str(row[name]) for row in rows]) for name in names]
        bad = [n for n, one in enumerate(self.findings) if one.status == FINDING]
        parts = [display.table(columns, bad=bad)]
        if self.run_id:
            parts.append(display.note(f"The checks of runs refer to {self.run_id}."))
        if self.fixed:
            parts.append(display.note(self.fixed.summary))
        return display.card(f"Audit of {self.dataset}", *parts)


class Checks(list[Check]):
    """What the doctor says of the machine."""

    @property
    def frame(self) -> pd.DataFrame:
        """One row a check."""
        return pd.DataFrame([vars(check) for check in self])

    def _repr_html_(self) -> str:
        names = ("status", "name", "result", "fix")
        columns = [(n, False, [str(vars(check)[n]) for check in self]) for n in names]
        bad = [number for number, check in enumerate(self) if check.status != "PASS"]
        return display.card("Doctor", display.table(columns, bad=bad))


@dataclass(frozen=True, eq=False)
class Explanation:
    """Heat maps of a run, as drawn.

    Attributes:
        result: The maps themselves, and what a reader of them has to know.
        rows: One dictionary a map; its ``files`` are the picture of the map and, if
            there are, sheets that it is on.
        folder: ``reports/<dataset>/explain/<run_id>``, where the pictures are.
    """

    result: ExplainResult
    rows: list[dict[str, Any]]
    folder: Path

    @property
    def frame(self) -> pd.DataFrame:
        """One row a map."""
        return pd.DataFrame(self.rows)

    @property
    def files(self) -> list[Path]:
        """The picture of each map."""
        return [Path(row["files"][0]) for row in self.rows]

    def __repr__(self) -> str:
        return f"<Explanation: {counted(len(self.rows), 'map')} in {self.folder}>"

    def _repr_html_(self) -> str:
        pictures = [
            display.picture(path, f"{row['path']}: {row['class']} by {row['method']}")
            for path, row in zip(self.files[:MOST_PICTURES], self.rows, strict=False)
        ]
        notes = [display.note(f"{text}.") for text in self.result.notes]
        more = len(self.rows) - len(pictures)
        if more:
            notes.append(display.note(f"{more} more maps in {self.folder}."))
        return display.card(counted(len(self.rows), "heat map"), *pictures, *notes)
