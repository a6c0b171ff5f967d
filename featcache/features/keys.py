"""Renderings of images, and how the keys of a store's rows say which they are.

View 0, of no policy, is the plain rendering of a whole image; views 1 and up are drawn
by one of the header's policies. A region's plain rendering is view 1 of a policy that
is the region alone; its augmented views are of a policy that names the region as well.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from featcache.dataset.regions import WHOLE_PICTURE, Region
from featcache.features.store import KEY, NO_MASK, NO_POLICY, Header, Store

Recipe = dict[str, Any]  # one of ``Header.policies``


@dataclass(frozen=True)
class RenderingQuery:
    """Which renderings of each image are meant.

    Attributes:
        views: Augmented views beside the plain rendering.
        recipe: The policy of these views; not looked at without any.
        region: What all renderings show.
        masks: By image_id, the SHA-256 of its mask; only for a region that needs them.
    """

    views: int
    recipe: Recipe | None = None
    region: Region = WHOLE_PICTURE
    masks: Mapping[str, str] = field(default_factory=dict)

    def added_to(self, header: Header) -> Header:
        """The header with the policies that the rows of these renderings need."""
        recipes = plain_recipe(self.region), self.recipe if self.views else None
        for recipe in recipes:
            if recipe:
                header, _ = header.with_policy(recipe)
        return header

    def keys(
        self, image_ids: Sequence[str] | np.ndarray, header: Header
    ) -> pd.DataFrame:
        """The keys of the renderings' rows, as a store numbers its policies.

        A policy that the store does not have gets a number that none of its rows has.

        Returns:
            ``views`` + 1 rows an image, the plain rendering first: the columns of
            ``store.KEY``, and ``draw``, 0 for the plain rendering, or the number of
            the draw.
        """
        rendered = self.views + 1
        plain = plain_recipe(self.region)
        plain_policy = policy_number(header, plain) if plain else NO_POLICY
        masks = [self.masks.get(image_id, NO_MASK) for image_id in image_ids]
        draw = np.tile(np.arange(rendered), len(image_ids))
        drawn_policy = policy_number(header, self.recipe)
        columns = (
            np.repeat(np.asarray(image_ids, object), rendered),
            np.where(draw == 0, int(bool(plain)), draw),
            np.where(draw == 0, plain_policy, drawn_policy),
            np.repeat(np.asarray(masks, object), rendered),
        )
        return pd.DataFrame(dict(zip(KEY, columns, strict=True)) | {"draw": draw})


def plain_recipe(region: Region) -> Recipe | None:
    """The policy of a region's plain rendering; a whole image needs none."""
    return dict(region.to_dict()) or None


def policy_number(header: Header, recipe: Recipe | None) -> int:
    """Number of a recipe in a store; one that no row has if it is not there."""
    policies = header.policies
    return policies.index(recipe) if recipe in policies else len(policies)


def has_region(stored: Store, region: Region) -> bool:
    """Whether a store has plain renderings of a region, or of whole images."""
    plain = plain_recipe(region)
    if plain is None:
        return bool(is_plain(stored.keys).any())
    return plain in stored.header.policies


def augmenting_recipes(header: Header, region: Region) -> list[Recipe]:
    """Policies of a region's augmented views, the oldest first."""
    plain = plain_recipe(region)
    return [
        recipe
        for recipe in header.policies
        if Region.of(recipe) == region and recipe != plain
    ]


def is_plain(keys: pd.DataFrame) -> np.ndarray:
    """Which rows are plain renderings of whole images, (N,) bool."""
    return (keys["view"] == 0).to_numpy()


def rows_by_region(keys: pd.DataFrame, header: Header) -> dict[Region, np.ndarray]:
    """Which rows show each region of a header's policies, (N,) bool.

    Whole images come first, whether there are any or not.
    """
    policy = keys["policy"].to_numpy()
    rows = {WHOLE_PICTURE: policy == NO_POLICY}
    for number, recipe in enumerate(header.policies):
        region = Region.of(recipe)
        rows[region] = rows.get(region, False) | (policy == number)
    return rows
