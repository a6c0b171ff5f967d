"""featcache: run a frozen backbone once, then compare heads in seconds."""

import logging
from importlib import metadata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from featcache.features import load as load

__all__ = ["__version__", "load"]

logging.getLogger(__name__).addHandler(logging.NullHandler())


def __getattr__(name: str) -> Any:
    # Lazy, so that `import featcache` loads neither h5py nor pandas.
    if name == "load":
        from featcache.features import load

        return load
    if name == "__version__":
        return metadata.version("featcache")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
