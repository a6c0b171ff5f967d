"""Feature stores: one HDF5 file holds one dataset of images x one contract.

Rows are keyed by (image_id, view, policy, mask_id); their order has no meaning. Work is
sealed in parts beside the store and published by merging them into a new file, or above
a size into a further part file. Nothing is ever written in place. The layout is
described in docs/reference/file-format.md.
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
from featcache.features.store.data_files import (
    data_files,
    data_folder,
    remove,
    unused_files,
)
from featcache.features.store.publication import add, compact, drop_rows, publish
from featcache.features.store.reader import open_store
from featcache.features.store.repair import (
    check_parts,
    drop_damaged_parts,
    rebuild,
)
from featcache.features.store.segments import dataset_name
from featcache.features.store.write import (
    merge,
    part_files,
    parts_folder,
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
    "add",
    "check_contract",
    "check_parts",
    "compact",
    "data_files",
    "data_folder",
    "dataset_name",
    "drop_damaged_parts",
    "drop_rows",
    "merge",
    "network_options",
    "open_store",
    "part_files",
    "parts_folder",
    "publish",
    "rebuild",
    "recipe_options",
    "remove",
    "seal",
    "seed_options",
    "store_path",
    "tap_options",
    "unused_files",
    "write_rows",
    "writing",
]
