"""Feature sets: what a head is trained on, as a user names it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from shlex import join, quote
from typing import Any

from featcache.core.registry import Registry
from featcache.dataset.manifest import Manifest
from featcache.dataset.regions import WHOLE_PICTURE, Region
from featcache.dataset.views import Policy
from featcache.errors import StoreError, UnknownNameError, UsageError
from featcache.features import store
from featcache.features.extractions import words_of_name
from featcache.features.keys import RenderingQuery, augmenting_recipes, has_region
from featcache.features.selection import Selection, select, stored_views
from featcache.features.store import Store

ALL = "all"


@dataclass(frozen=True)
class FeatureSet:
    """What a head is trained on: one store, or several side by side.

    Attributes:
        stores: In the order of their names, each once.
    """

    stores: tuple[Store, ...]

    @cached_property
    def text(self) -> str:
        """A backbone, or several as ``a@224+b@299``."""
        if len(self.stores) == 1:
            return self.stores[0].header.contract.backbone
        return "+".join(map(_sized_name, self.stores))

    def shows(self, region: Region) -> bool:
        """Whether all stores have renderings of a region."""
        return all(has_region(one, region) for one in self.stores)

    def select(
        self,
        dataset: Manifest,
        *,
        views: int | str = ALL,
        policy: Policy | None = None,
        taps: Sequence[str] = (),
        region: Region = WHOLE_PICTURE,
        masks: Mapping[str, str] | None = None,
    ) -> Selection:
        """Finds the rows of a manifest's usable images.

        Args:
            dataset: Whose images.
            views: Augmented views beside the plain one, or "all" that are stored.
            policy: Their recipe; by default the newest of the region that all stores
                have.
            taps: Inner layers; each store appends those of them that it has.
            region: What the renderings show.
            masks: By image_id, the SHA-256 of its mask, for a region that needs one:
                rows of another mask are not found.

        Returns:
            (views + 1) rows an image, view 0 first, in the manifest's order.

        Raises:
            StoreError: A store lacks rows that were asked for, or that another has.
            UsageError: A policy of another region.
        """
        recipe = self._recipe(policy, region)
        if isinstance(views, str):
            views = max(stored_views(one, recipe) for one in self.stores)
        if views < 0:
            raise UsageError(
                "`views` of 0 or more", str(views), "Leave it out for none."
            )
        query = RenderingQuery(views, recipe, region, masks or {})
        return select(self.stores, dataset, query=query, taps=taps)

    def policies(self, region: Region = WHOLE_PICTURE) -> dict[int, Policy]:
        """Recipes of a region's augmented views, the oldest first.

        By their index in the first store that has any.
        """
        for stored in self.stores:
            recipes = augmenting_recipes(stored.header, region)
            if recipes:
                every = stored.header.policies
                return {every.index(recipe): Policy.of(recipe) for recipe in recipes}
        return {}

    def _recipe(self, policy: Policy | None, region: Region) -> dict[str, Any] | None:
        lists = [augmenting_recipes(stored.header, region) for stored in self.stores]
        recipes = next(filter(None, lists), [])
        if policy is None:
            shared = [p for p in recipes if all(p in others for others in lists)]
            newest = shared[-1:] or recipes[-1:]
            return newest[0] if newest else None
        if policy.region != region:
            raise UsageError(
                f"a `policy` of `region` {region.kind}",
                f"one of {policy.region.kind}",
                "Give both the same region.",
            )
        recipe = policy.to_dict()
        if not any(recipe in recipes for recipes in lists):
            raise StoreError(
                f"views of {self.text}{region.suffix} by policy {recipe}",
                f"{len(recipes)} other policies",
                "Extract views by it, or leave `policy` out for the newest.",
            )
        return recipe


def find_sets(dataset: Manifest, names: Sequence[str]) -> list[FeatureSet]:
    """Finds the stores that a user names.

    Args:
        dataset: Whose stores.
        names: Each a backbone, backbone-weights or file name, all with or without
            ``@PX`` for the input size, which gives a set for each store it fits;
            several of them joined by ``+``, which give one set; or "all".

    Returns:
        Each set once, in the order asked.

    Raises:
        UnknownNameError: No store has that name, or several have it inside a ``+``.
        StoreError: There is no store, or one is damaged.
    """
    paths = sorted((dataset.folder / "features").glob("*.h5"))
    if not paths:
        raise StoreError(
            f"features of {dataset.dataset}",
            "none",
            f"Run: featcache extract --dataset {quote(dataset.dataset)} -b BACKBONE",
        )
    sets: dict[tuple[Path, ...], FeatureSet] = {}
    for name in names:
        for set_paths in _paths_of(dataset, paths, name):
            stores = sorted(map(store.open_store, set_paths), key=sort_key)
            sets[tuple(one.path for one in stores)] = FeatureSet(tuple(stores))
    return list(sets.values())


def _paths_of(dataset: Manifest, paths: list[Path], text: str) -> list[list[Path]]:
    """The stores of each set that a text names."""
    if text.lower() == ALL:
        return [[path] for path in paths]
    if alone := _matches(paths, text):
        return [[path] for path in alone]
    parts = [_the_one(dataset, paths, part) for part in text.split("+")]
    if len(set(parts)) < len(parts):
        raise UsageError(
            "each store once in a combination with +", repr(text), "Remove the repeat."
        )
    return [parts]


def _the_one(dataset: Manifest, paths: list[Path], name: str) -> Path:
    matches = _matches(paths, name)
    if len(matches) == 1:
        return matches[0]
    if matches:
        raise UnknownNameError(
            f"{name!r} to name one store in a combination with +",
            f"{len(matches)}: {', '.join(path.stem for path in matches)}",
            "Use one of these names.",
        )
    plain, size = _without_size(name)
    words = ["featcache", "extract", "--dataset", dataset.dataset]
    words += words_of_name(plain, dataset.folder.parent)
    words += ["--input-size", str(size)] if size else []
    raise UnknownNameError(
        f"a backbone with features: {', '.join(path.stem for path in paths)}",
        repr(name),
        f"Run: {join(words)}",
    )


def _matches(paths: list[Path], name: str) -> list[Path]:
    """A store answers to its file name, less the contract, less the weights tag."""
    stem = Path(name).stem if name.endswith((".keras", ".h5")) else name
    answers: list[tuple[Path, set[str]]] = []
    for path in paths:
        parts = path.stem.rsplit("-", 2)
        answers.append((path, {path.stem, "-".join(parts[:2]), parts[0]}))
    matches = [path for path, texts in answers if stem in texts]
    if not matches:  # in other capitals, as backbones may be written
        matches = [p for p, texts in answers if stem.lower() in map(str.lower, texts)]
    plain, size = _without_size(name)
    if matches or size is None:
        return matches
    return [
        path
        for path in _matches(paths, plain)
        if store.open_store(path).header.contract.input_size == size
    ]


def _without_size(name: str) -> tuple[str, int | None]:
    """``densenet121@224`` in its two parts."""
    plain, _, size = name.rpartition("@")
    return (plain, int(size)) if plain and size.isdecimal() else (name, None)


def sort_key(stored: Store) -> tuple[str, int, str]:
    """Name, input size and file of a store: the order of stores in a set."""
    contract = stored.header.contract
    return contract.backbone, contract.input_size, stored.path.name


def _sized_name(stored: Store) -> str:
    contract = stored.header.contract
    if stored.header.weights == "none":  # a baseline, which has but one size
        return contract.backbone
    return f"{contract.backbone}@{contract.input_size}"


def find_taps(stores: Sequence[Store], taps: str | Sequence[str]) -> list[str]:
    """Turns a user's words for taps into names that some of the stores have.

    Raises:
        UnknownNameError: None has such a tap; the nearest names are offered.
    """
    existing = dict.fromkeys(name for stored in stores for name in stored.taps)
    if taps in (ALL, "none", ""):
        return list(existing) if taps == ALL else []
    names = taps.split(",") if isinstance(taps, str) else list(taps)
    table = Registry(
        "stored tap", existing, hint="Or extract it; all takes all that are stored."
    )
    for name in names:
        if name not in table:
            raise table.unknown(name)
    return names
