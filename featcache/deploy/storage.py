"""Embeddings of images that are answered for: read where they are stored, and kept."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from featcache.core.progress import SILENT, Reporter
from featcache.core.versions import installed_versions
from featcache.deploy.model import Model, Outputs, Rendering
from featcache.errors import FeatcacheError, StoreError
from featcache.features import store
from featcache.features.copies import (
    EMBEDDER,
    OpenedStore,
    complete_rows,
    paths_of_contract,
)
from featcache.features.keys import Recipe, policy_number
from featcache.features.store import NO_POLICY, Header, Store

_ROWS_AT_ONCE = 4096  # new rows in memory before they are sealed


@dataclass(eq=False)
class _NetworkStorage:
    """What is stored of one network.

    Attributes:
        header: Of the store that the model was trained on.
        outputs: Names of the outputs.
        renderings: How the network sees an image.
        paths: Stores with its features; new ones go to the last.
        can_write: Whether they do.
    """

    header: Header
    outputs: tuple[str, ...]
    renderings: list[Rendering]
    paths: list[Path]
    can_write: bool = True
    waiting: list[tuple[pd.DataFrame, Outputs]] = field(default_factory=list)

    @cached_property
    def stores(self) -> list[tuple[OpenedStore, dict[str, np.ndarray]]]:
        """The stores, verified, and the rows of each image that they have whole."""
        opened = []
        for path in self.paths:
            with suppress(FeatcacheError, OSError):  # damaged: computed again
                one = OpenedStore.open(path)
                same = one.store.header.contract_id == self.header.contract_id
                if same and (rows := self._rows(one.store)):
                    one.store.verify()
                    opened.append((one, rows))
        return opened

    def _rows(self, opened: Store) -> dict[str, np.ndarray]:
        if not set(self.outputs) <= set(opened.dims):
            return {}
        keys = opened.keys.assign(row=np.arange(len(opened.keys)))
        keys = keys[complete_rows(opened, self.outputs)]
        by_rendering = []
        for one in self.renderings:
            recipe = _recipe(one)
            policy = policy_number(opened.header, recipe) if recipe else NO_POLICY
            same = (keys["view"] == one.view) & (keys["policy"] == policy)
            rows = keys[same].drop_duplicates("image_id")
            by_rendering.append(rows.set_index("image_id")["row"])
        table = pd.concat(by_rendering, axis=1, join="inner")
        return dict(zip(table.index, table.to_numpy(int), strict=True))

    def find(self, image_ids: Sequence[str]) -> dict[str, Outputs]:
        """Outputs (renderings, width) of the images that are stored."""
        results: dict[str, Outputs] = {}
        for opened, rows in self.stores:
            ids = [one for one in dict.fromkeys(image_ids) if one in rows]
            ids = [one for one in ids if one not in results]
            if ids:
                numbers = np.concatenate([rows[one] for one in ids])
                with suppress(FeatcacheError):  # replaced meanwhile: computed again
                    by_name = {n: opened.rows(n, numbers) for n in self.outputs}
                    for name, values in by_name.items():
                        values = values.reshape(len(ids), len(self.renderings), -1)
                        for image_id, of_image in zip(ids, values, strict=True):
                            results.setdefault(image_id, {})[name] = of_image
        return results

    def add(self, image_ids: Sequence[str], outputs: Outputs) -> None:
        """Keeps outputs (n, renderings, width) until they are sealed.

        Raises:
            StoreError: The rows of earlier calls were made by other libraries.
        """
        header = self.header
        if not self.waiting and not _can_take(self.paths[-1], header.versions):
            raise StoreError(
                f"those in {self.paths[-1]} were made with other libraries; delete it "
                "to keep new ones",
                "Delete it.",
            )
        for one in self.renderings:
            if recipe := _recipe(one):
                header, _ = header.with_policy(recipe)
        self.header = header
        policies = [
            policy_number(header, _recipe(one)) if one.policy else NO_POLICY
            for one in self.renderings
        ]
        keys = pd.DataFrame(
            {
                "image_id": np.repeat(np.asarray(image_ids, object), len(policies)),
                "view": np.tile([one.view for one in self.renderings], len(image_ids)),
                "policy": np.tile(policies, len(image_ids)),
                "path": "",
            }
        )
        flat = {k: v.reshape(-1, v.shape[2]) for k, v in outputs.items()}
        self.waiting.append((keys, flat))
        if sum(len(keys) for keys, _ in self.waiting) >= _ROWS_AT_ONCE:
            self.seal()

    def seal(self) -> None:
        """Writes what is waiting as a part of the store."""
        if self.waiting and self.can_write:
            keys = pd.concat([one for one, _ in self.waiting], ignore_index=True)
            # The same picture may have come in two batches.
            once = ~keys.duplicated(["image_id", "view", "policy"]).to_numpy()
            outputs = {
                name: np.concatenate([values[name] for _, values in self.waiting])[once]
                for name in self.outputs
            }
            with store.writing(self.paths[-1]):
                store.seal(self.paths[-1], self.header, outputs, keys[once])
        self.waiting.clear()

    def publish(self) -> None:
        """Merges the new parts into the store."""
        self.seal()
        if self.can_write and store.part_files(self.paths[-1]):
            with store.writing(self.paths[-1]):
                store.publish(self.paths[-1], self.header)


def _can_take(path: Path, versions: Mapping[str, str]) -> bool:
    """Whether a store's rows are of these libraries; one header is for all."""
    if path.exists():
        with suppress(FeatcacheError, OSError):  # damaged: replaced
            others = store.open_store(path).header.versions
            both = (others.keys() & versions.keys()) - {"featcache"}
            return all(others[name] == versions[name] for name in both)
    return True


def _recipe(rendering: Rendering) -> Recipe | None:
    return rendering.policy.to_dict() if rendering.policy else None


@dataclass(eq=False)
class CacheStorage:
    """Embeddings in a cache: those of its datasets, and those of other images.

    Attributes:
        networks: By the number of the network; None for one that has no store.
        reporter: Hears if nothing can be kept.
    """

    networks: list[_NetworkStorage | None]
    reporter: Reporter = SILENT

    def find(self, number: int, image_ids: Sequence[str]) -> dict[str, Outputs]:
        """Outputs (renderings, width) of a network for the images that are stored."""
        network = self.networks[number]
        return network.find(image_ids) if network else {}

    def add(self, number: int, image_ids: Sequence[str], outputs: Outputs) -> None:
        """Keeps outputs (n, renderings, width) of a network."""
        network = self.networks[number]
        if network and network.can_write:
            with self._forgiving(network):
                network.add(image_ids, outputs)

    def publish(self) -> None:
        """Writes what was added."""
        for network in self.networks:
            if network:
                with self._forgiving(network):
                    network.publish()

    @contextmanager
    def _forgiving(self, network: _NetworkStorage) -> Iterator[None]:
        """Answers do not depend on what can be kept."""
        try:
            yield
        except (FeatcacheError, OSError) as error:
            network.waiting.clear()
            network.can_write = False
            text = error.got if isinstance(error, FeatcacheError) else error
            self.reporter.message(f"new features are not kept in the cache: {text}")


@contextmanager
def stored(model: Model, cache: Path, reporter: Reporter = SILENT) -> Iterator[Model]:
    """The model with the cache behind it; new embeddings are kept after the block.

    Args:
        model: Of a run.
        cache: The cache folder.
        reporter: Hears if nothing can be kept.
    """
    networks = []
    for number, network in enumerate(model.networks):
        storage = None
        if network.store:
            own = store.store_path(cache / EMBEDDER / "features", network.store.header)
            contract_id = network.store.header.contract_id
            others = paths_of_contract(cache, contract_id, own=own)
            paths = list(dict.fromkeys([network.store.path, *others, own]))
            renderings = model.renderings[number]
            versions = installed_versions([*network.store.header.versions])
            header = replace(network.store.header, policies=[], versions=versions)
            storage = _NetworkStorage(header, network.outputs, renderings, paths)
        networks.append(storage)
    keeper = CacheStorage(networks, reporter)
    try:
        yield replace(model, storage=keeper)
    finally:
        keeper.publish()
