"""Runs a study: each step by the function of its command, only what is missing."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from featcache.backbones import IMAGENET, Backbone, Network, fetch_weights
from featcache.commands.compare import Leaderboard, compare
from featcache.commands.ensemble import ensemble
from featcache.commands.extract import StoreResult, extract
from featcache.commands.finetune import finetune
from featcache.commands.scan import scan
from featcache.commands.train_head import train_head
from featcache.core.options import arguments
from featcache.core.progress import SILENT, Indented, Reporter
from featcache.core.text import counted, some
from featcache.core.workers import LOCAL, Site
from featcache.dataset.manifest import Manifest
from featcache.dataset.splits import SplitOptions
from featcache.errors import FeatcacheError
from featcache.evaluation.run_labels import write_labels
from featcache.evaluation.runs import Run
from featcache.features import store
from featcache.features.sets import sort_key
from featcache.features.store import Store
from featcache.study import looks
from featcache.study.base import (
    Ensemble,
    Extract,
    Finetune,
    Member,
    Source,
    Study,
    Train,
)
from featcache.study.forecast import forecast
from featcache.study.looks import Draw
from featcache.study.members import spelled
from featcache.study.training_rows import training_rows


@dataclass(frozen=True)
class StudyResult:
    """What a study did.

    Attributes:
        dataset: Its name.
        boards: A leaderboard for each split of the study, in the file's order.
        runs: The runs of each ``[[train]]``, ``[[finetune]]`` and ``[[ensemble]]``, by
            its name.
        computed: Embeddings computed by this call.
        new_run_ids: Ids of the runs made by this call.
        failures: What could not be done, one line each.
    """

    dataset: str
    boards: list[Leaderboard]
    runs: dict[str, list[Run]]
    computed: int
    new_run_ids: list[str]
    failures: list[str]


def run(
    study: Study,
    cache: Path,
    *,
    reports: Path = Path("reports"),
    jobs: int | None = None,
    on: str = LOCAL,
    reporter: Reporter = SILENT,
    draw: Draw | None = None,
) -> StudyResult:
    """Does what is missing of a study: scan to compare, and audit and maps.

    A block that fails is told and does not stop the others; what cannot do without
    it fails as well.

    Args:
        study: What to do; see ``study.read``.
        cache: The cache folder.
        reports: The reports folder.
        jobs: Parallel processes for the scan and the heads; by default one a core.
        on: Where to extract and train: "local", "dask", "ray" or a cluster; see
            ``extract``, ``train_head`` and ``finetune``.
        reporter: Hears of each step and how far it is, and what the user should know.
        draw: Draws the maps of an ``[explain]``; it gets an ``ExplainResult``, the
            folder and ``cells``. Without it no maps are made.

    Raises:
        DatasetError: The source cannot be used, or lacks a column.
    """
    Site.of(on)
    work = StudyRunner(study, reports, jobs, on, reporter)
    work.fetch()
    data = work.scan(cache)
    reporter.message(f"  {forecast(study, data, reports, jobs)}")
    steps: dict[str, tuple[Sequence[Any], Callable[..., None]]] = {
        "extract": (study.extracts, work.extract),
        "train": (study.trains, work.train),
        "finetune": (study.finetunes, work.finetune),
        "ensemble": (study.ensembles, work.ensemble),
    }
    for what, (blocks, do) in steps.items():
        for block in blocks:
            with work.step(what, block.name):
                do(data, block)
    boards = work.rank(data)
    work.look(data, boards, draw)
    return StudyResult(
        data.dataset, boards, work.runs, work.computed, work.new_run_ids, work.failures
    )


@dataclass
class StudyRunner:
    """A study under way."""

    study: Study
    reports: Path
    jobs: int | None
    on: str
    reporter: Reporter
    stores: dict[Source, Store] = field(default_factory=dict)
    runs: dict[str, list[Run]] = field(default_factory=dict)
    new_run_ids: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    missing_weights: set[str] = field(default_factory=set)
    computed: int = 0

    @contextmanager
    def step(self, what: str, name: str) -> Iterator[None]:
        """Tells what is done next; keeps its error for the end."""
        title = name if name.startswith(what) else f"{what} {name}"
        self.reporter.message(f"- {title}")
        with self.attempt(title):
            yield

    @contextmanager
    def attempt(self, title: str) -> Iterator[None]:
        """Keeps an error for the end."""
        try:
            yield
        except FeatcacheError as error:
            self.fail(f"{title}: {error}")

    def fail(self, text: str) -> None:
        """Says at once what could not be done, and keeps it for the end."""
        self.failures.append(text)
        self.reporter.message(f"  Failed: {text}")

    def fetch(self) -> None:
        """Finds out before the long work which weights cannot be had."""
        extracted = [n for block in self.study.extracts for n in block.networks]
        tuned = [n for block in self.study.finetunes for n in block.networks]
        networks = [*extracted, *tuned]
        rows = {n.name: n.row for n in networks if n.weights == IMAGENET}
        for name, row in rows.items():
            if isinstance(row, Backbone):
                try:
                    fetch_weights(row)
                except FeatcacheError as error:
                    self.missing_weights.add(name)
                    self.fail(f"{name}: {error}")

    def scan(self, cache: Path) -> Manifest:
        """Scans, and looks at once whether all columns are there."""
        arguments = dict(self.study.dataset)
        self.reporter.message(f"- scan {arguments['source']}")
        result = scan(
            arguments.pop("source"),
            cache,
            jobs=self.jobs,
            reporter=self.reporter,
            **arguments,
        )
        for warning in result.warnings:
            self.reporter.message(f"  Warning: {warning}")
        for path, reason in result.unreadable:
            self.reporter.message(f"  Unreadable: {path}: {reason}")
        self.reporter.message(
            f"  {counted(sum(result.counts.values()), 'image')} in "
            f"{counted(result.n_groups, 'group')}"
        )
        for train in self.study.trains:
            words = train.settings.items()
            own = {key: value for key, value in words if key in vars(SplitOptions())}
            SplitOptions(**own).narrow(result.manifest)
        return result.manifest

    def extract(self, data: Manifest, block: Extract) -> None:
        """Extracts with those backbones whose weights can be had."""
        networks = [n for n in block.networks if not self.lacks(n)]
        if not networks:
            return
        results = extract(
            data,
            networks,
            policy=block.policy,
            on=self.on,
            reporter=Indented(self.reporter),
            **block.settings,
        )
        sources = {(n.name, n.input_size): Source(block.name, n) for n in networks}
        for result in results:
            self.computed += result.computed
            self.reporter.message(f"  {_describe_store(result)}")
            opened = store.open_store(result.path)
            self.stores[sources[sort_key(opened)[:2]]] = opened

    def lacks(self, network: Network) -> bool:
        """Whether the weights of a network cannot be had."""
        return network.weights == IMAGENET and network.name in self.missing_weights

    def train(self, data: Manifest, block: Train) -> None:
        """Trains on those sets whose features are there."""
        calls: list[tuple[dict[str, Any], list[str]]] = []
        for feature_set in block.sets:
            if all(source in self.stores for source in feature_set):
                names = "+".join(
                    self.stores[source].path.stem for source in feature_set
                )
                rows = training_rows(self.study, block, feature_set)
                same = [names_of for known, names_of in calls if known == rows]
                if same:
                    same[0].append(names)
                else:
                    calls.append((rows, [names]))
            else:
                labels = "+".join(source.label for source in feature_set)
                self.fail(f"{block.name}: there are no features of {labels}")
        block_runs = self.runs.setdefault(block.name, [])
        for rows, names_of_sets in calls:
            result = train_head(
                data,
                self.reports,
                backbones=names_of_sets,
                jobs=self.jobs,
                on=self.on,
                reporter=self.reporter,
                **arguments(train_head, block.settings | rows),
            )
            block_runs += result.runs
            self.new_run_ids += result.new_run_ids
        self.tell_runs(block.name)

    def members(self, references: Iterable[Member]) -> list[Run]:
        """The runs that are meant; where there are repeats, the first of each."""
        return [
            each
            for name, head in references
            for each in self.runs.get(name, [])
            if head in (None, each.record.head)
            and not each.failed
            and not each.record.split.repeat
        ]

    def finetune(self, data: Manifest, block: Finetune) -> None:
        """Fine-tunes those backbones whose weights, and heads, can be had."""
        block_runs = self.runs.setdefault(block.name, [])
        for network in block.networks:
            head = self.head_of(block, network) if block.init_head else None
            if self.lacks(network):
                self.fail(f"{block.name}: there are no weights for {network.name}")
                continue
            if block.init_head and not head:
                self.fail(
                    f"{block.name}: there is no head on features of {network.name}"
                )
                continue
            with self.attempt(f"{block.name}, {network.name}"):
                result = finetune(
                    data,
                    [network],
                    reports=self.reports,
                    init_head=head,
                    on=self.on,
                    reporter=Indented(self.reporter),
                    **arguments(finetune, block.settings | {"policy": block.policy}),
                )
                block_runs += result.runs
                self.new_run_ids += result.new_run_ids
        self.tell_runs(block.name)

    def head_of(self, block: Finetune, network: Network) -> str | None:
        """The run that a network's head is started from."""
        named = self.members([block.init_head] if block.init_head else [])
        of = [
            r.run_id for r in named if _source(r) == (network.name, network.input_size)
        ]
        return of[0] if len(of) == 1 else None

    def ensemble(self, data: Manifest, block: Ensemble) -> None:
        """Averages the runs of its members, if each has any."""
        for each in block.members:
            if not self.members([each]):
                self.fail(f"{block.name}: there are no runs of {spelled(each)}")
                return
        members = [each.run_id for each in self.members(block.members)]
        result = ensemble(self.reports / data.dataset, members, **block.settings)
        self.runs[block.name] = result.runs
        self.new_run_ids += result.new_run_ids
        for line in result.excluded:
            self.reporter.message(f"  Skipped: {line}")
        self.tell_runs(block.name)

    def tell_runs(self, name: str) -> None:
        """Tells the accuracy of new runs, and why others failed."""
        new = {each.run_id for each in self.runs[name]} & {*self.new_run_ids}
        self.reporter.message(
            f"  {counted(len(self.runs[name]), 'run')}, {len(new)} new"
        )
        for each in self.runs[name]:
            if each.failed:
                self.fail(
                    f"{name}: {each.short_id} {each.run_id}: {each.record.reason}"
                )
            elif each.run_id in new:
                scores = next(iter(each.record.scores.values()))
                self.reporter.message(
                    f"  {each.short_id} {each.run_id}: "
                    f"accuracy {scores['accuracy']:.3f} "
                    f"({scores['accuracy_low']:.3f}-{scores['accuracy_high']:.3f})"
                )

    def rank(self, data: Manifest) -> list[Leaderboard]:
        """A leaderboard for each split of the study's runs."""
        whole = [each for block_runs in self.runs.values() for each in block_runs]
        splits = [each.record.split.base for each in whole if not each.failed]
        folder, settings = self.reports / data.dataset, dict(self.study.report)
        self.label(folder)
        boards = []
        for split in dict.fromkeys(splits):
            named = self.members([self.study.against] if self.study.against else [])
            references = [
                each.run_id for each in named if each.record.split.base == split
            ]
            if len(references) > 1:
                got = f"{len(references)}: {some(references)}"
                self.fail(f"against: expected one run; got {got}")
            settings["against"] = references[0] if len(references) == 1 else None
            board = compare(folder, split=split, manifest=data, **settings)
            boards.append(board)
            for line in board.excluded:
                self.reporter.message(f"Not ranked on split {split}: {line}")
            for line in board.warnings:
                self.reporter.message(f"Warning: {line}")
        return boards

    def look(
        self, data: Manifest, boards: Sequence[Leaderboard], draw: Draw | None
    ) -> None:
        """Audits and explains, as far as the file asks for it."""
        study = self.study
        if study.audit is not None:
            with self.step("audit", study.name):
                looks.audit_again(data, self.reports, study.audit, self.reporter)
        if study.explain and draw:
            named = study.explain.run
            with self.step("explain", spelled(named) if named else "the best run"):
                members = self.members([named]) if named else None
                run = looks.best_of(boards, members)
                files, asks = study.network_files, study.explain
                looks.explain_again(data, run, asks, files, draw, self.reporter)

    def label(self, folder: Path) -> None:
        """Keeps what the study calls its runs, for every later leaderboard."""
        labels: dict[str, str | None] = {}
        for name, block_runs in self.runs.items():
            for each in block_runs:  # of two blocks, the one with a label names a run
                label = self.study.labels[name] or labels.get(each.run_id)
                labels[each.run_id] = label
        write_labels(folder, labels)


def _source(run: Run) -> tuple[str, int | None]:
    return run.record.backbone, run.record.input_size


def _describe_store(result: StoreResult) -> str:
    what = f"{result.backbone} ({result.weights}): {result.rows} rows of {result.dim}"
    if not result.computed:
        return f"{what}, all cached"
    failed = (
        f"; {counted(len(result.failures), 'image')} failed" if result.failures else ""
    )
    return (
        f"{what}, {result.computed} computed in {result.seconds:.1f} s by "
        f"{result.engine}{failed}"
    )
