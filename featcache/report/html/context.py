"""All that a report is made of, opened once; what is missing is told, not raised."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import pandas as pd

from featcache.commands.compare import Leaderboard
from featcache.dataset.manifest import COLUMNS, Manifest
from featcache.errors import FeatcacheError
from featcache.evaluation import runs
from featcache.evaluation.record import RunRecord
from featcache.evaluation.runs import Run
from featcache.features import store
from featcache.features.store import Store

ExtractRecord = Mapping[str, Any]

MOST_VALUES = 10  # a column with more different texts is no source column
NOT_GIVEN = "(not given)"


@dataclass(frozen=True)
class Material:
    """The records behind a report.

    Attributes:
        reports: ``reports/<dataset>``.
        board: The leaderboard.
        runs: Its runs, best first.
        manifest: The dataset, where the cache is at hand.
        stores: The feature stores of the runs, by file name.
        extracts: Records of the calls of extract, oldest first.
        members: Records of runs that an ensemble averages, by run_id.
        lacking: What could not be opened, one line each.
    """

    reports: Path
    board: Leaderboard
    runs: list[Run]
    manifest: Manifest | None
    stores: dict[str, Store]
    extracts: list[ExtractRecord]
    members: dict[str, RunRecord]
    lacking: list[str] = field(default_factory=list)

    @property
    def best(self) -> Run:
        """The run at the top."""
        return self.runs[0]

    @cached_property
    def judged(self) -> pd.DataFrame:
        """Who was judged, by image_id: group, label, fold and split.

        A run may be judged on the test part alone; the one that says most is asked.
        """
        table = max((run.table for run in self.runs), key=len)
        return table.set_index("image_id")[["group", "label", "fold", "split"]]

    @cached_property
    def images(self) -> pd.DataFrame:
        """The judged images by image_id, with the columns of the manifest.

        Label and group are those of the runs, which may have left images out and
        grouped the others anew.
        """
        judged = self.judged[["label", "group"]]
        if self.manifest is None:
            return judged
        known = self.manifest.ok.set_index("image_id").drop(columns=["label", "group"])
        return judged.join(known, how="inner")


def collect(reports: Path, board: Leaderboard, manifest: Manifest | None) -> Material:
    """Opens everything that the runs of a leaderboard name.

    Args:
        reports: ``reports/<dataset>``.
        board: The leaderboard.
        manifest: The dataset; without it nothing of the cache is opened.

    Raises:
        RunError: A run is broken.
    """
    found = [runs.load(reports / "runs" / row.run_id) for row in board.rows]
    stores: dict[str, Store] = {}
    extracts: list[ExtractRecord] = []
    lacking: list[str] = []
    if manifest is None:
        lacking.append("the dataset's cache was not at hand")
    else:
        for name in dict.fromkeys(n for run in found for n in store_names(run.record)):
            try:
                stores[name] = store.open_store(manifest.folder / "features" / name)
            except FeatcacheError as error:
                lacking.append(f"the features {name}: {error.got}")
        extracts = _extracts(manifest.folder)
    members = _members(reports, found, lacking)
    return Material(reports, board, found, manifest, stores, extracts, members, lacking)


def _members(
    reports: Path, found: list[Run], lacking: list[str]
) -> dict[str, RunRecord]:
    """Records of all members; an ensemble whose member is gone is told."""
    members: dict[str, RunRecord] = {run.run_id: run.record for run in found}
    for run in found:
        for name in run.record.members:
            try:
                members[name] = runs.load(reports / "runs" / name).record
            except FeatcacheError as error:
                lacking.append(f"the run {name}: {error.got}")
    return members


def store_names(record: RunRecord) -> list[str]:
    """File names of the stores that a run was trained on."""
    names = dict.fromkeys(block.store for block in record.features)
    return [name for name in names if name]


def _extracts(folder: Path) -> list[ExtractRecord]:
    found: list[ExtractRecord] = []
    for path in sorted(folder.glob("extract-*.json")):
        try:
            found.append(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError):
            found.append({"status": f"{path.name} cannot be read"})
    return sorted(found, key=lambda record: str(record.get("started")))


def source_columns(images: pd.DataFrame) -> dict[str, pd.Series]:
    """Columns that say where an image comes from: few values, and not the label.

    The manifest's further columns and the file's mode. A column of many numbers,
    such as the age, is cut into its quarters.
    """
    found = {}
    for name in [c for c in images if c == "mode" or c not in COLUMNS]:
        values = images[name].astype(str).str.strip().replace("", NOT_GIVEN)
        if values.nunique() > MOST_VALUES:
            values = _quarters(values)
        if 2 <= values.nunique() <= MOST_VALUES and not _same(values, images["label"]):
            found[str(name)] = values
    return found


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


def embeddings(material: Material, run: Run) -> pd.DataFrame | None:
    """The features that a run was trained on, plain views only, by image_id.

    None where they are not at hand, which ``lacking`` tells.
    """
    if material.manifest is None:
        return None
    parts = []
    for block in run.record.features:
        found = material.stores.get(str(block.store))
        if found is None:
            return None
        try:
            parts.append(_block(found, block.tap or store.FEATURES))
        except (FeatcacheError, KeyError) as error:
            got = getattr(error, "got", f"no {error}")
            material.lacking.append(f"the features {found.path.name}: {got}")
            return None
    return pd.concat(parts, axis=1, join="inner") if parts else None


def _block(found: Store, tap: str) -> pd.DataFrame:
    X = found.read(tap)
    plain = (found.keys["view"] == 0).to_numpy()
    return pd.DataFrame(X[plain], index=found.keys["image_id"][plain]).dropna()
