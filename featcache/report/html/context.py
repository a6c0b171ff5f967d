"""All records behind a report, opened once; what is missing is listed, not raised."""

import re
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from pathlib import Path

import pandas as pd

from featcache.commands.compare import Leaderboard
from featcache.core.command_lines import Folders
from featcache.dataset.manifest import COLUMNS, Manifest
from featcache.dataset.own_split import is_split
from featcache.errors import FeatcacheError
from featcache.evaluation import runs
from featcache.evaluation.record import RunRecord
from featcache.evaluation.runs import Run
from featcache.features import store
from featcache.features.extractions import Extraction, read_extractions
from featcache.features.keys import is_plain
from featcache.features.store import Store

MOST_VALUES = 10  # a column with more different texts is no source column
NOT_GIVEN = "(not given)"
# Folders of an absolute path; those of a quoted one may have spaces.
_FOLDERS = re.compile(
    r"(?<=')(?:/|[A-Za-z]:[/\\])(?:[^'/\\\n]+[/\\])+"
    r"|(?<![\w./:~\\-])(?:file://)?(?:/|[A-Za-z]:[/\\])(?:[^\s'\"/\\]+[/\\])+"
)


@dataclass(frozen=True)
class ReportContext:
    """The records behind a report.

    Attributes:
        reports: ``reports/<dataset>``.
        board: The leaderboard.
        manifest: The dataset, where the cache is available.
        stores: The feature stores of the runs, by file name.
        extracts: Records of the calls of extract, oldest first.
        members: Records of runs that an ensemble averages, by run_id.
        missing: What could not be opened, one line each.
    """

    reports: Path
    board: Leaderboard
    manifest: Manifest | None
    stores: dict[str, Store]
    extracts: list[Extraction]
    members: dict[str, RunRecord]
    missing: list[str] = field(default_factory=list)

    def complete(self, text: str) -> str:
        """A text with its commands complete, for others: see `without_folders`."""
        return without_folders(self.folders.complete(text))

    @property
    def folders(self) -> Folders:
        """Where cache and reports are, for the page's commands."""
        cache = self.manifest.folder.parent if self.manifest else None
        return Folders(cache, self.reports.parent)

    @cached_property
    def runs(self) -> list[Run]:
        """The runs of the leaderboard, best first."""
        return [scored.run for scored in self.board.scored]

    @property
    def best(self) -> Run:
        """The run at the top."""
        return self.runs[0]

    @cached_property
    def evaluated(self) -> pd.DataFrame:
        """The evaluated images by image_id: group, label, fold and split.

        Those of the run with most predictions: others may have the test set alone.
        """
        table = max((run.table for run in self.runs), key=len)
        return table.set_index("image_id")[["group", "label", "fold", "split"]]

    @cached_property
    def images(self) -> pd.DataFrame:
        """The evaluated images by image_id, with the columns of the manifest.

        Label and group are those of the runs, which may have left images out and
        grouped the others anew.
        """
        evaluated = self.evaluated[["label", "group"]]
        if self.manifest is None:
            return evaluated
        known = self.manifest.ok.set_index("image_id").drop(columns=["label", "group"])
        return evaluated.join(known, how="inner")

    @cached_property
    def sources(self) -> dict[str, pd.Series]:
        """`source_columns` of the images, which every run is split by."""
        return source_columns(self.images)


def without_folders(text: str) -> str:
    """A text whose absolute paths are FOLDER/NAME.

    Where a file lies is of no use to others, and may tell a person's name.
    """
    return _FOLDERS.sub("FOLDER/", text)


def collect(
    reports: Path, board: Leaderboard, manifest: Manifest | None
) -> ReportContext:
    """Opens the stores and records that the runs of a leaderboard name.

    Args:
        reports: ``reports/<dataset>``.
        board: The leaderboard.
        manifest: The dataset; without it nothing of the cache is opened.
    """
    loaded = [scored.run for scored in board.scored]
    stores: dict[str, Store] = {}
    extracts: list[Extraction] = []
    missing: list[str] = []
    if manifest is None:
        missing.append("the cache of the dataset")
    else:
        for name in dict.fromkeys(n for run in loaded for n in store_names(run.record)):
            try:
                stores[name] = store.open_store(manifest.folder / "features" / name)
            except FeatcacheError as error:
                missing.append(f"the features {name}: {error.got}")
        extracts = read_extractions(manifest.folder)
    members = _members(reports, loaded, missing)
    return ReportContext(reports, board, manifest, stores, extracts, members, missing)


def _members(
    reports: Path, loaded: list[Run], missing: list[str]
) -> dict[str, RunRecord]:
    """Records of all members; a missing member is listed."""
    members: dict[str, RunRecord] = {run.run_id: run.record for run in loaded}
    for run in loaded:
        for name in run.record.members:
            try:
                members[name] = runs.load(reports / "runs" / name).record
            except FeatcacheError as error:
                missing.append(f"the run {name}: {error.got}")
    return members


def store_names(record: RunRecord) -> list[str]:
    """File names of the stores that a run was trained on."""
    names = dict.fromkeys(block.store for block in record.features)
    return [name for name in names if name]


def source_columns(images: pd.DataFrame) -> dict[str, pd.Series]:
    """Columns that say where an image comes from: few values, and not the label.

    The manifest's further columns, without published splits, and the file's mode. A
    column of many numbers, such as the age, is cut into its quarters.
    """
    by_name = {}
    for name in [c for c in images if c == "mode" or c not in COLUMNS]:
        values = images[name].astype(str).str.strip()
        if is_split(str(name), values):
            continue
        values = values.replace("", NOT_GIVEN)
        if values.nunique() > MOST_VALUES:
            values = _quarters(values)
        if 2 <= values.nunique() <= MOST_VALUES and not _same(values, images["label"]):
            by_name[str(name)] = values
    return by_name


def _quarters(values: pd.Series) -> pd.Series:
    numbers = pd.to_numeric(values, errors="coerce")
    if numbers.notna().mean() < 0.5:
        return values
    cut = pd.qcut(numbers, 4, duplicates="drop")
    edges = [f"{one.right:g}" for one in cut.cat.categories]
    names = [f"up to {edges[0]}"]
    names += [f"over {a}, up to {b}" for a, b in pairwise(edges)]
    named = cut.cat.rename_categories(names)
    return pd.Series(named.astype(object).fillna(NOT_GIVEN))


def _same(values: pd.Series, labels: pd.Series) -> bool:
    """Whether a column is another spelling of the label."""
    pairs = pd.DataFrame({"a": values, "b": labels}).drop_duplicates()
    return bool(pairs["a"].is_unique and pairs["b"].is_unique)


def embeddings(context: ReportContext, run: Run) -> pd.DataFrame | None:
    """The features that a run was trained on, plain views only, by image_id.

    None where they are not available, which ``missing`` says.
    """
    if context.manifest is None:
        return None
    parts = []
    for block in run.record.features:
        features = context.stores.get(str(block.store))
        if features is None:
            return None
        try:
            parts.append(_block(features, block.tap or store.FEATURES))
        except (FeatcacheError, KeyError) as error:
            got = getattr(error, "got", f"no {error}")
            context.missing.append(f"the features {features.path.name}: {got}")
            return None
    return pd.concat(parts, axis=1, join="inner") if parts else None


def _block(features: Store, tap: str) -> pd.DataFrame:
    X = features.read(tap)
    plain = is_plain(features.keys)
    return pd.DataFrame(X[plain], index=features.keys["image_id"][plain]).dropna()
