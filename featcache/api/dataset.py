"""`Dataset`: a scanned dataset in the hand, with the commands as its verbs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from featcache.api import curves, display, functions
from featcache.api.networks import Paths
from featcache.api.progress import show
from featcache.api.results import AuditResult, Curve, Explanation, Leaderboard, Runs
from featcache.api.words import cache_folder, manifest_of, with_options_of
from featcache.commands import scan as scanning
from featcache.commands.extract import StoreResult
from featcache.core.text import counted
from featcache.dataset.manifest import DUPLICATE, UNREADABLE, Manifest
from featcache.dataset.urls import inside, location
from featcache.dataset.views import Policy
from featcache.errors import UnknownNameError
from featcache.evaluation import runs
from featcache.features import Features, find_sets, find_taps


class Dataset:
    """A dataset's images, with its folders, and what can be done with it.

    Attributes:
        manifest: The images, as scanned.
        reports: The folder of runs of all datasets.
        warnings: What the scan that made this object had to say.
    """

    def __init__(
        self,
        manifest: Manifest,
        reports: str | Path | None = None,
        warnings: Sequence[str] = (),
    ) -> None:
        self.manifest = manifest
        self.reports = Path(reports or "reports")
        self.warnings = list(warnings)

    @property
    def name(self) -> str:
        """Its name."""
        return self.manifest.dataset

    @property
    def classes(self) -> list[str]:
        """The labels of usable images, in class order."""
        return self.manifest.classes

    @property
    def frame(self) -> pd.DataFrame:
        """A copy of the manifest, with one row a file."""
        return self.manifest.table.copy()

    @property
    def paths(self) -> list[str]:
        """Path or URL of each usable image, for ``featcache.Embedder``."""
        root = self.manifest.root
        return [str(inside(root, path)) for path in self.manifest.ok["path"]]

    @property
    def stores(self) -> list[Path]:
        """Its feature stores."""
        return sorted((self.manifest.folder / "features").glob("*.h5"))

    @property
    def runs(self) -> Runs:
        """Its runs, without broken ones."""
        return Runs(runs.list_runs(self.reports / self.name)[0], [])

    @with_options_of(functions.extract)
    def extract(self, backbones: Paths, **options: Any) -> list[StoreResult]:
        """Runs frozen backbones over the images; see ``featcache.extract``."""
        return functions.extract(self, backbones, **options)

    @with_options_of(functions.train_head)
    def train_heads(
        self, heads: Any = "all", backbones: Paths = "all", **options: Any
    ) -> Runs:
        """Trains heads on stored features; see ``featcache.train_head``."""
        return functions.train_head(self, heads, backbones, **options)

    @with_options_of(functions.finetune)
    def finetune(self, backbones: Paths, **options: Any) -> Runs:
        """Trains whole networks; see ``featcache.finetune``."""
        return functions.finetune(self, backbones, **options)

    @with_options_of(functions.ensemble)
    def ensemble(self, members: Any = "all", **options: Any) -> Runs:
        """Averages runs; see ``featcache.ensemble``."""
        return functions.ensemble(self, members, **options)

    @with_options_of(functions.compare)
    def compare(self, **options: Any) -> Leaderboard:
        """Ranks the runs; see ``featcache.compare``."""
        return functions.compare(self, **options)

    @with_options_of(curves.curve)
    def curve(self, run: Any = 1, **options: Any) -> Curve:
        """How a run's score grows with its patients; see ``featcache.curve``."""
        return curves.curve(self, run, **options)

    @with_options_of(functions.explain)
    def explain(
        self, run: Any = None, images: Paths = (), **options: Any
    ) -> Explanation:
        """Draws heat maps of a run, by default the best; see ``featcache.explain``."""
        return functions.explain(self, run, images, **options)

    @with_options_of(functions.audit)
    def audit(self, **options: Any) -> AuditResult:
        """Checks for what makes figures too good; see ``featcache.audit``."""
        return functions.audit(self, **options)

    def features(
        self,
        backbone: str | Path = "all",
        *,
        views: int = 0,
        policy: Policy | None = None,
        taps: str | Sequence[str] = (),
        mmap: bool = False,
    ) -> Features:
        """Stored features with labels and groups, in the manifest's order.

        Args:
            backbone: A stored feature set; several joined by ``+`` stand side by side.
                May be left out where there is only one.
            views: Augmented views to load beside the plain one.
            policy: Their recipe; by default the newest in the store.
            taps: Inner layers to append: their names, or "all".
            mmap: Map ``X`` from a temporary file; see ``featcache.load``.

        Returns:
            ``X, y, groups, meta``; (views + 1) rows an image, view 0 first.

        Raises:
            UnknownNameError: No store has that name, or several have.
            StoreError: The store is damaged, or lacks rows.
        """
        sets = find_sets(self.manifest, [str(backbone)])
        if len(sets) != 1:
            raise UnknownNameError(
                f"one feature set of {self.name}",
                f"{len(sets)}: {', '.join(path.stem for path in self.stores)}",
                "Choose one of them.",
            )
        selection = sets[0].select(
            self.manifest,
            views=views,
            policy=policy,
            taps=find_taps(sets[0].stores, taps),
        )
        return Features.of(selection, mmap=mmap)

    def __repr__(self) -> str:
        return f"<Dataset {self.name}: {counted(len(self.manifest.ok), 'image')}>"

    def _repr_html_(self) -> str:
        table, ok = self.manifest.table, self.manifest.ok
        counts = ok["label"].value_counts()
        status = table["status"].value_counts()
        figures = [
            ("images", f"{len(ok):,}", f"{ok['group'].nunique():,} groups"),
            *((name, f"{counts[name]:,}", "") for name in self.classes),
        ]
        facts = [
            ("source", self.manifest.settings.source),
            ("grouped by", self.manifest.settings.group_by),
            ("duplicates left out", status.get(DUPLICATE, 0)),
            ("unreadable", status.get(UNREADABLE, 0)),
            ("stores", ", ".join(path.stem for path in self.stores) or "none"),
            ("runs", len(self.runs)),
        ]
        return display.card(
            f"Dataset {self.name}",
            display.tiles(figures),
            display.facts(facts),
            *(display.note(text, warning=True) for text in self.warnings),
        )


def open(
    dataset: str | None = None,
    *,
    cache: str | Path | None = None,
    reports: str | Path | None = None,
) -> Dataset:
    """Opens a scanned dataset.

    Args:
        dataset: Its name; may be left out where the cache has only one.
        cache: The cache folder; by default ``$FEATCACHE_CACHE``, else ``cache``.
        reports: The reports folder; by default ``reports``.

    Raises:
        DatasetError: There is no such dataset, or there are several.
    """
    return Dataset(manifest_of(dataset, cache), reports)


def scan(
    source: str | Path,
    dataset: str | None = None,
    *,
    group_by: str | None = None,
    per_class: int | None = None,
    on_conflict: str | None = None,
    split_by: str | None = None,
    pool: bool | None = None,
    jobs: int | None = None,
    cache: str | Path | None = None,
    reports: str | Path | None = None,
    progress: bool | None = None,
) -> Dataset:
    """Lists and checks the images of a source, and opens them as a dataset.

    Args:
        source: A folder with one sub-folder a class or with a metadata.csv, a zip of
            one, or a CSV; a path, or a URL such as s3://bucket/folder.
        dataset: A name; by default the source folder's.
        group_by: What stays together: a column, a regular expression for the file
            name or the folders, "dicom:PatientID", "image", or "near-duplicate".
        per_class: Only the first so many images of each class.
        on_conflict: The same bytes under two labels: "error" or "drop".
        split_by: Keep the split that the source brings: "folder", or a column.
        pool: Join the parts of that split.
        jobs: Parallel processes; by default one a core for 10,000 files or more.
        cache: The cache folder; by default ``$FEATCACHE_CACHE``, else ``cache``.
        reports: The reports folder; by default ``reports``.
        progress: Whether to show a bar; by default in notebooks and terminals.

    Raises:
        DatasetError: The source or its grouping cannot be used.
    """
    with show(progress) as reporter:
        result = scanning.scan(
            location(source),
            cache_folder(cache),
            dataset=dataset,
            group_by=group_by,
            per_class=per_class,
            on_conflict=on_conflict,
            split_by=split_by,
            pool=pool,
            jobs=jobs,
            reporter=reporter,
        )
    return Dataset(result.manifest, reports, result.warnings)
