"""Keys: how the rows of a store say which rendering of an image they are."""

import pandas as pd

from featcache.dataset.regions import WHOLE_PICTURE, Region
from featcache.dataset.views import Policy
from featcache.features.keys import (
    RenderingQuery,
    augmenting_recipes,
    is_plain,
    rows_by_region,
)
from featcache.features.store import KEY, Header

RING, INSIDE = Region("ring"), Region("inside")
EMPTY = Header({}, [], "random", "", "", {}, {})


def keys(query: RenderingQuery, header: Header) -> list[tuple[object, ...]]:
    """The keys of the renderings of two images."""
    table = query.keys(["a", "b"], header)
    return list(table[[*KEY, "draw"]].itertuples(index=False, name=None))


def test_whole_images_have_view_0_of_no_policy() -> None:
    """View 0 has policy -1, later views that of their recipe, image by image."""
    query = RenderingQuery(1, Policy().to_dict())
    header = query.added_to(EMPTY)
    assert header.policies == [Policy().to_dict()]
    assert keys(query, header) == [
        ("a", 0, -1, "", 0),
        ("a", 1, 0, "", 1),
        ("b", 0, -1, "", 0),
        ("b", 1, 0, "", 1),
    ]


def test_a_region_is_a_policy_of_its_own_with_the_masks_digest() -> None:
    """Its plain rendering is view 1 of the region alone; views name it as well."""
    policy = Policy(region=INSIDE)
    query = RenderingQuery(1, policy.to_dict(), INSIDE, {"a": "m", "b": "n"})
    header = query.added_to(EMPTY)
    assert header.policies == [{"region": "inside", "mask": "mask"}, policy.to_dict()]
    assert keys(query, header) == [
        ("a", 1, 0, "m", 0),
        ("a", 1, 1, "m", 1),
        ("b", 1, 0, "n", 0),
        ("b", 1, 1, "n", 1),
    ]


def test_without_views_no_recipe_is_added() -> None:
    """Asking for plain renderings leaves the header of whole images as it is."""
    assert RenderingQuery(0, Policy().to_dict()).added_to(EMPTY) is EMPTY
    ring = RenderingQuery(0, Policy(region=RING).to_dict(), RING).added_to(EMPTY)
    assert ring.policies == [RING.to_dict()]


def test_what_a_store_lacks_has_a_number_of_no_row() -> None:
    """A recipe or region that a header does not name matches none of its policies."""
    query = RenderingQuery(1, Policy(region=RING).to_dict(), RING)
    header = RenderingQuery(1, Policy().to_dict()).added_to(EMPTY)
    assert {key[2] for key in keys(query, header)} == {len(header.policies)}


def test_rows_and_recipes_are_told_apart_by_region() -> None:
    """What is written for a region is read back as that region's, and no other's."""
    whole = RenderingQuery(2, Policy().to_dict())
    ring = RenderingQuery(1, Policy(region=RING).to_dict(), RING)
    header = ring.added_to(whole.added_to(EMPTY))
    table = pd.concat([q.keys(["a", "b"], header) for q in (whole, ring)])
    rows = rows_by_region(table, header)
    assert {region: int(mine.sum()) for region, mine in rows.items()} == {
        WHOLE_PICTURE: 6,
        RING: 4,
    }
    assert rows[WHOLE_PICTURE][:6].all()
    assert is_plain(table).sum() == 2
    assert augmenting_recipes(header, WHOLE_PICTURE) == [whole.recipe]
    assert augmenting_recipes(header, RING) == [ring.recipe]
