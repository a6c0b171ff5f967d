"""Pages and programs that ask a model over HTTP, on this machine."""

from importlib.util import find_spec

from featcache.core.text import some
from featcache.errors import UsageError

_PACKAGES = {
    "starlette": "starlette",
    "uvicorn": "uvicorn",
    "python_multipart": "python-multipart",
}


def require_pages() -> None:
    """Refuses to serve where the extra is not installed.

    Raises:
        UsageError: Names what is missing.
    """
    missing = [name for module, name in _PACKAGES.items() if find_spec(module) is None]
    if missing:
        raise UsageError(
            f"pages need {some(missing)}, not installed here",
            "Run: pip install 'featcache[serve]'.",
        )
