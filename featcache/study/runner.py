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
from featcache.core.text import some
from featcache.dataset import manifest as manifests
from featcache.dataset.manifest import Manifest
from featcache.dataset.regions import Region
from featcache.dataset.views import Policy
from featcache.errors import FeatcacheError
from featcache.evaluation.runs import Run
from featcache.features import store
from featcache.features.sets import sort_key
from featcache.features.store import Store
from featcache.study.base import (
    Ensemble,
    Extract,
    Finetune,
    Member,
    Source,
    Study,
    Train,
)
from featcache.study.members import spelled


@dataclass(frozen=True)
class StudyResult:
    """What a study did.

    Attributes:
        dataset: Its name.
        boards: A leaderboard for each split of the study, in the file's order.
        runs: The runs of each ``[[train]]``, ``[[finetune]]`` and ``[[ensemble]]``, by
            its name.
        computed: Embeddings computed by this call.
        trained: Ids of the runs made by this call.
        failures: What could not be done, one line each.
    """

    dataset: str
    boards: list[Leaderboard]
    runs: dict[str, list[Run]]
    computed: int
    trained: list[str]
    failures: list[str]


def run(
    study: Study,
    cache: Path,
    *,
    reports: Path = Path("reports"),
    jobs: int | None = None,
    reporter: Reporter = SILENT,
) -> StudyResult:
    """Does what is missing of a study: scan, extract, train, ensembles, compare.

    A block that fails is told and does not stop the others; what cannot do without
    it fails as well.

    Args:
        study: What to do; see ``study.read``.
        cache: The cache folder.
        reports: The reports folder.
        jobs: Parallel processes for the heads; by default one a core.
        reporter: Hears of each step and how far it is, and what the user should know.

    Raises:
        DatasetError: The source cannot be used, or lacks a column.
    """
    work = StudyRunner(study, reports, jobs, reporter)
    work.fetch()
    data = work.scan(cache)
    steps: dict[str, tuple[Sequence[Any], Callable[..., None]]] = {
        "extract": (study.extracts, work.extract),
        "train": (study.trains, work.train),
        "finetune": (study.finetunes, work.finetune),
        "ensemble": (study.ensembles, work.ensemble),
    }
    for what, (blocks, do) in steps.items():
        for asked in blocks:
            with work.step(what, asked.name):
                do(data, asked)
    boards = work.rank(data)
    return StudyResult(
        data.dataset, boards, work.runs, work.computed, work.trained, work.failures
    )


@dataclass
class StudyRunner:
    """A study under way."""

    study: Study
    reports: Path
    jobs: int | None
    reporter: Reporter
    stores: dict[Source, Store] = field(default_factory=dict)
    runs: dict[str, list[Run]] = field(default_factory=dict)
    trained: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    lacking: set[str] = field(default_factory=set)
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
        extracted = [n for asked in self.study.extracts for n in asked.networks]
        tuned = [n for asked in self.study.finetunes for n in asked.networks]
        networks = [*extracted, *tuned]
        rows = {n.name: n.row for n in networks if n.weights == IMAGENET}
        for name, row in rows.items():
            if isinstance(row, Backbone):
                try:
                    fetch_weights(row)
                except FeatcacheError as error:
                    self.lacking.add(name)
                    self.fail(f"{name}: {error}")

    def scan(self, cache: Path) -> Manifest:
        """Scans, and looks at once whether all columns are there."""
        arguments = dict(self.study.dataset)
        self.reporter.message(f"- scan {arguments['source']}")
        result = scan(
            arguments.pop("source"),
            cache,
            reporter=self.reporter,
            **arguments,
        )
        for warning in result.warnings:
            self.reporter.message(f"  Warning: {warning}")
        for path, reason in result.unreadable:
            self.reporter.message(f"  Unreadable: {path}: {reason}")
        self.reporter.message(
            f"  {sum(result.counts.values())} images of {result.n_groups} groups"
        )
        for train in self.study.trains:
            asked = train.settings
            manifests.narrow(
                result.manifest,
                exclude=asked.get("exclude", ()),
                group_by=asked.get("group_by"),
            )
        return result.manifest

    def extract(self, data: Manifest, asked: Extract) -> None:
        """Extracts with those backbones whose weights can be had."""
        networks = [n for n in asked.networks if not self.lacks(n)]
        if not networks:
            return
        results = extract(
            data,
            networks,
            policy=asked.policy,
            reporter=Indented(self.reporter),
            **asked.settings,
        )
        sources = {(n.name, n.input_size): Source(asked.name, n) for n in networks}
        for result in results:
            self.computed += result.computed
            self.reporter.message(f"  {_made(result)}")
            found = store.open_store(result.path)
            self.stores[sources[sort_key(found)[:2]]] = found

    def lacks(self, network: Network) -> bool:
        """Whether the weights of a network cannot be had."""
        return network.weights == IMAGENET and network.name in self.lacking

    def train(self, data: Manifest, asked: Train) -> None:
        """Trains on those sets whose features are there."""
        calls: dict[tuple[Any, ...], list[str]] = {}
        for chosen in asked.sets:
            if all(source in self.stores for source in chosen):
                names = "+".join(self.stores[source].path.stem for source in chosen)
                calls.setdefault(self.selection(asked, chosen), []).append(names)
            else:
                labels = "+".join(source.label for source in chosen)
                self.fail(f"{asked.name}: no features of {labels}")
        found = self.runs.setdefault(asked.name, [])
        for (views, policy, taps, region), names_of_sets in calls.items():
            rows = {"views": views, "policy": policy, "taps": taps}
            rows |= {"region": region.kind, "mask": region.mask}
            result = train_head(
                data,
                self.reports,
                backbones=names_of_sets,
                jobs=self.jobs,
                reporter=self.reporter,
                **arguments(train_head, asked.settings | rows),
            )
            found += result.runs
            self.trained += result.trained
        self.tell_runs(asked.name)

    def selection(
        self, asked: Train, chosen: tuple[Source, ...]
    ) -> tuple[int, Policy | None, str, Region]:
        """Which rows and columns of a set's stores: views, their policy, taps, region.

        The study decides, and not what else the stores happen to hold.
        """
        views, taps = asked.settings.get("views", "all"), asked.settings.get("taps")
        extracts = {each.name: each for each in self.study.extracts}
        made = [extracts[source.extract] for source in chosen]
        if isinstance(views, str):
            views = min(each.views for each in made)
        if taps == "all":
            pairs = zip(made, chosen, strict=True)
            taps = [tap for each, source in pairs for tap in each.taps(source.network)]
        if not isinstance(taps, str):
            taps = ",".join(dict.fromkeys(taps or ())) or "none"
        policy = made[0].policy
        return views, policy if views else None, taps, policy.region

    def members(self, asked: Iterable[Member]) -> list[Run]:
        """The runs that are meant; where there are repeats, the first of each."""
        return [
            each
            for name, head in asked
            for each in self.runs.get(name, [])
            if head in (None, each.record.head)
            and not each.failed
            and not each.record.split.repeat
        ]

    def finetune(self, data: Manifest, asked: Finetune) -> None:
        """Fine-tunes those backbones whose weights, and heads, can be had."""
        found = self.runs.setdefault(asked.name, [])
        for network in asked.networks:
            head = self.head_of(asked, network) if asked.init_head else None
            if self.lacks(network):
                self.fail(f"{asked.name}: no weights for {network.name}")
                continue
            if asked.init_head and not head:
                self.fail(f"{asked.name}: no head on features of {network.name}")
                continue
            with self.attempt(f"{asked.name}, {network.name}"):
                result = finetune(
                    data,
                    [network],
                    reports=self.reports,
                    init_head=head,
                    reporter=Indented(self.reporter),
                    **arguments(finetune, asked.settings | {"policy": asked.policy}),
                )
                found += result.runs
                self.trained += result.trained
        self.tell_runs(asked.name)

    def head_of(self, asked: Finetune, network: Network) -> str | None:
        """The run that a network's head is started from."""
        named = self.members([asked.init_head] if asked.init_head else [])
        of = [
            r.run_id for r in named if _source(r) == (network.name, network.input_size)
        ]
        return of[0] if len(of) == 1 else None

    def ensemble(self, data: Manifest, asked: Ensemble) -> None:
        """Averages the runs of its members, if each has any."""
        for each in asked.members:
            if not self.members([each]):
                self.fail(f"{asked.name}: no runs of {spelled(each)}")
                return
        members = [each.run_id for each in self.members(asked.members)]
        result = ensemble(self.reports / data.dataset, members, **asked.settings)
        self.runs[asked.name] = result.runs
        self.trained += result.made
        for line in result.left_out:
            self.reporter.message(f"  Left out: {line}")
        self.tell_runs(asked.name)

    def tell_runs(self, name: str) -> None:
        """Tells the accuracy of new runs, and why others failed."""
        new = {each.run_id for each in self.runs[name]} & {*self.trained}
        self.reporter.message(f"  {len(self.runs[name])} runs, {len(new)} new")
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
        whole = [each for found in self.runs.values() for each in found]
        splits = [each.record.split.base for each in whole if not each.failed]
        folder, asked = self.reports / data.dataset, dict(self.study.report)
        boards = []
        for split in dict.fromkeys(splits):
            named = self.members([self.study.against] if self.study.against else [])
            held = [each.run_id for each in named if each.record.split.base == split]
            if len(held) > 1:
                self.fail(f"against: expected one run; got {len(held)}: {some(held)}")
            asked["against"] = held[0] if len(held) == 1 else None
            board = compare(folder, split=split, manifest=data, **asked)
            boards.append(board)
            for line in board.warnings:
                self.reporter.message(f"Warning: {line}")
        return boards


def _source(run: Run) -> tuple[str, int | None]:
    return run.record.backbone, run.record.input_size


def _made(result: StoreResult) -> str:
    what = f"{result.backbone} ({result.weights}): {result.rows} x {result.dim}"
    if not result.computed:
        return f"{what}, all cached"
    failed = f"; {len(result.failures)} images failed" if result.failures else ""
    return (
        f"{what}, {result.computed} computed in {result.seconds:.1f} s by "
        f"{result.engine}{failed}"
    )
