"""``featcache audit --complete``: the features and runs that its checks need."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from featcache.backbones import BASELINES, NONE, Baseline, Network, resolve, resolve_all
from featcache.commands.audit.context import AuditContext
from featcache.commands.extract import extract
from featcache.commands.train_head import ON_BASELINES, HeadOptions, train_head
from featcache.core.progress import SILENT, Reporter
from featcache.dataset.manifest import Manifest
from featcache.dataset.narrowing import FOLD, JOIN
from featcache.dataset.own_split import NO_SPLIT
from featcache.dataset.regions import (
    INSIDE,
    MASK,
    OUTSIDE,
    RING,
    WHOLE,
    WHOLE_PICTURE,
    Region,
)
from featcache.dataset.splits import SplitOptions
from featcache.dataset.views import Policy
from featcache.deploy import networks as deployed
from featcache.errors import RunError, UsageError
from featcache.evaluation.runs import Run
from featcache.features import measured, store
from featcache.features.contract import FLOAT32
from featcache.features.keys import has_region


@dataclass(frozen=True)
class Completion:
    """What makes up for what an audit lacks; each step does only what is missing.

    Attributes:
        manifest: The dataset.
        reports: The folder of runs of all datasets.
        split: Of the runs; None for the newest, or the default.
        jobs: Parallel processes for the heads.
        reporter: Hears of each step.
    """

    manifest: Manifest
    reports: Path
    split: str | None = None
    jobs: int | None = None
    reporter: Reporter = SILENT

    @property
    def runs(self) -> list[Run]:
        """The runs of the evaluation that an audit looks at, the best first."""
        home = self.reports / self.manifest.dataset
        return AuditContext(self.manifest, home, self.reporter, self.split).runs

    def train(
        self,
        names: Sequence[str],
        split: SplitOptions,
        region: str = WHOLE,
    ) -> None:
        """Trains the heads of baselines on feature sets, of a part of the images."""
        train_head(
            self.manifest,
            self.reports,
            backbones=names,
            heads=ON_BASELINES,
            options=HeadOptions(region=region),
            split=split,
            jobs=self.jobs,
            reporter=self.reporter,
        )

    def networks(self, wanted: Sequence[Network]) -> None:
        """Runs of networks: of those that are named, else of those in the cache."""
        wanted = [one for one in wanted if not isinstance(one.row, Baseline)]
        best = next((run for run in self.runs if not run.record.is_baseline), None)
        if best and not wanted:
            return
        if wanted:
            results = extract(self.manifest, wanted, reporter=self.reporter)
            names = [result.path.stem for result in results]
        else:
            paths = sorted((self.manifest.folder / "features").glob("*.h5"))
            stores = map(store.open_store, paths)
            of_networks = [one for one in stores if one.header.weights != NONE]
            names = [
                one.path.stem for one in of_networks if has_region(one, WHOLE_PICTURE)
            ]
        if not names:
            raise UsageError(
                "`backbone`, a network to compare the baselines with",
                "none, and no features of one in the cache",
                "Name one: featcache audit --complete -b mobilenetv2",
            )
        split = SplitOptions(split=self.split)
        self.train(names, split_of(best, self.manifest) if best else split)

    def controls(self) -> None:
        """Runs of the baselines, and of the best network on parts of the images."""
        best = next((run for run in self.runs if not run.record.is_baseline), None)
        if best is None:
            raise RunError(
                "a run of a network that did not fail",
                "none",
                "Run featcache train-head, which says why.",
            )
        split = split_of(best, self.manifest)
        extract(self.manifest, [*map(resolve, BASELINES)], reporter=self.reporter)
        self.train([*BASELINES], split)
        self.tell_left_out(best)
        masks = self.manifest.ok.get(MASK)
        has_masks = masks is not None and bool(masks.ne("").all())
        for kind in (RING, INSIDE, OUTSIDE) if has_masks else (RING,):
            self.region(best, Region(kind), split)

    def tell_left_out(self, best: Run) -> None:
        """Says which networks of the best run have no runs on parts of the images."""
        blocks = [block for block in best.record.features if not block.contract_id]
        if names := {block.backbone: None for block in blocks}:
            self.reporter.message(
                f"No runs on parts of the images for {', '.join(names)}, fine-tuned, "
                f"of {best.run_id}: only frozen networks have such features."
            )

    def region(self, best: Run, region: Region, split: SplitOptions) -> None:
        """Runs of the best run's networks on a part of the images."""
        blocks = [
            block
            for block in best.record.features
            if block.weights != NONE and block.contract_id  # else it was fine-tuned
        ]
        folder = self.manifest.folder
        stores = [deployed.store_of(best, folder, block) for block in blocks]
        names = []
        for header in {stored.path: stored.header for stored in stores}.values():
            contract = header.contract
            files = [Path(file) for file in (best.record.network_file,) if file]
            # What was measured on the images of a split is found by that split.
            seed, split_by = 0, None
            if measured.is_measured(header):
                seed, split_by = split.seed, split.split_by
            (made,) = extract(
                self.manifest,
                [deployed.resolve(header, folder, files)],
                policy=Policy(region=region, seed=seed),
                split_by=split_by,
                precision=contract.precision or FLOAT32,
                dtype=contract.dtype or FLOAT32,
                reporter=self.reporter,
            )
            names.append(made.path.stem)
        if names:
            self.train(names, split, region.kind)


def complete(
    manifest: Manifest,
    reports: Path,
    backbones: Sequence[str] = (),
    *,
    split: str | None = None,
    jobs: int | None = None,
    reporter: Reporter = SILENT,
) -> None:
    """Computes what the audit's checks lack: features, and heads on them.

    Runs of networks (of ``backbones``; else of what is in the cache, unless there is a
    run), the baselines, and the best run's networks on the outer ring and, where every
    image has a mask, inside and outside of it; all on the split of the best run.

    Args:
        manifest: The dataset.
        reports: The folder of runs of all datasets.
        backbones: Networks to extract and train on first; see ``resolve_all``.
        split: As for ``audit``.
        jobs: Parallel processes for the heads; by default one a core.
        reporter: Hears of the steps.

    Raises:
        UsageError: No network is named, and none is in the cache.
        FeatcacheError: As ``extract`` and ``train_head``.
    """
    work = Completion(manifest, reports, split, jobs, reporter)
    work.networks(resolve_all(backbones, reporter=reporter) if backbones else [])
    work.controls()


def split_of(run: Run, manifest: Manifest) -> SplitOptions:
    """The options that evaluate on the images and the split of a run."""
    record, info = run.record, run.record.split
    is_site, settings = "=" in (info.split_by or ""), manifest.settings
    split_by = info.split_by or (NO_SPLIT if settings.split_by else None)
    return SplitOptions(
        exclude=record.exclude,
        group_by=None if settings.group_by == info.group_by else info.group_by,
        folds=info.folds,
        test_size=SplitOptions().test_size if info.split_by else info.test_size,
        split_by=None if is_site else split_by,
        test_where=info.split_by if is_site else None,
        val_part=FOLD if info.own_val else JOIN,
        seed=info.seed,
        split=info.base,
    )
