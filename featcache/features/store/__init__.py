"""Feature stores: one HDF5 file holds one dataset of images x one contract.

Rows are keyed by (image_id, view, policy, mask_id); their order has no meaning. Work is
sealed in parts beside the store and published by merging them into a new file.
Nothing is ever written in place. The layout is described in docs/file-format.md.
"""

from featcache.features.store.base import (
    FEATURES,
    KEY,
    NO_MASK,
    NO_POLICY,
    Header,
    Store,
    check_contract,
    store_path,
)
from featcache.features.store.cli_words import (
    network_options,
    recipe_options,
    seed_options,
    tap_options,
)
from featcache.features.store.reader import open_store
from featcache.features.store.write import (
    merge,
    part_files,
    parts_folder,
    publish,
    seal,
    write_rows,
    writing,
)

__all__ = [
    "FEATURES",
    "KEY",
    "NO_MASK",
    "NO_POLICY",
    "Header",
    "Store",
    "check_contract",
    "merge",
    "network_options",
    "open_store",
    "part_files",
    "parts_folder",
    "publish",
    "recipe_options",
    "seal",
    "seed_options",
    "store_path",
    "tap_options",
    "write_rows",
    "writing",
]
