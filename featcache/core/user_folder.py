"""The user's own folder for what may be made again: ``~/.cache/featcache``."""

import os
from pathlib import Path


def user_folder(name: str) -> Path:
    """A folder of the user that no other user can write to; it may not exist yet.

    Args:
        name: Of the folder in ``$XDG_CACHE_HOME/featcache``, else in
            ``~/.cache/featcache``.
    """
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.path.expanduser(home), "featcache", name)
