"""A call as a cluster's worker gets it, and what the worker does with it."""

import pickle
import platform
import threading
from collections.abc import Callable
from typing import Any

from featcache.core.parallel import call, has_one_thread
from featcache.core.versions import installed_versions

# Of one release numbers are the same, and what is sent can be read.
PACKAGES = (
    *("featcache", "numpy", "scipy", "scikit-learn", "pandas", "h5py", "pillow"),
    *("keras", "tensorflow", "openvino", "xgboost", "joblib"),
)
DONE, REFUSED = "done", "refused"
Outcome = tuple[str, Any]  # DONE and what `parallel.call` gives, or REFUSED and why
# Threads of a worker would share BLAS's and TensorFlow's settings.
_one_at_a_time = threading.Lock()


def expected_versions() -> dict[str, str]:
    """Versions that a worker has to have: Python's, and those of `PACKAGES`."""
    return {"python": platform.python_version()} | installed_versions(PACKAGES)


def pack(function: Callable[..., Any], arguments: dict[str, Any]) -> bytes:
    """A call as bytes, which nobody on the way has to be able to read."""
    return pickle.dumps((function, arguments))


def starter() -> Callable[[bytes, dict[str, str], dict[str, str]], Outcome]:
    """The function that a worker calls.

    It is sent as code and needs only the standard library, so that a worker without
    the package, or with another version of it, can say so.
    """

    def start(
        payload: bytes, expected: dict[str, str], environment: dict[str, str]
    ) -> tuple[str, Any]:
        import os
        import platform
        import socket
        from importlib import import_module, metadata

        def version(name: str) -> str:
            if name == "python":
                return platform.python_version()
            try:
                return metadata.version(name)
            except metadata.PackageNotFoundError:
                return "none"

        own = {name: version(name) for name in expected}
        differing = [name for name in expected if own[name] != expected[name]]
        texts = [f"{n} {own[n]} instead of {expected[n]}" for n in differing]
        if not texts:
            os.environ.update(environment)
            try:
                task = import_module("featcache.core.workers.task")
            except ImportError as error:
                texts = [str(error)]
            else:
                state, result = task.work(payload)
                if state == "done":
                    return state, result
                texts = [result]
        where = f"a worker on {socket.gethostname()}, process {os.getpid()}"
        return "refused", f"{where}, with {', '.join(texts)}"

    return start


def work(payload: bytes) -> Outcome:
    """Makes a call in this process, which has its environment."""
    with _one_at_a_time:
        if not has_one_thread():
            return REFUSED, "TensorFlow in several threads, from earlier work in it"
        try:
            function, arguments = pickle.loads(payload)
        except (ImportError, AttributeError) as error:
            return REFUSED, f"other code ({error})"
        return DONE, call(function, arguments)
