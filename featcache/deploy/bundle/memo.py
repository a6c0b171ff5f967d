"""Proofs of bundles that this machine has seen, so that each is made once."""

import os
import platform
from pathlib import Path

from featcache.core import memo
from featcache.core.versions import installed_versions
from featcache.deploy.bundle.open import Bundle
from featcache.deploy.bundle.verify import verify
from featcache.errors import BundleError

_LIBRARIES = (
    *("featcache", "numpy", "openvino", "pillow", "pydicom", "scikit-learn", "scipy"),
    *("tensorflow", "keras", "xgboost"),
)


def prove(bundle: Bundle) -> bool:
    """Verifies a bundle, unless this machine has with these libraries.

    Returns:
        Whether the proof was made now.

    Raises:
        BundleError: The bundle does not give here what it gave where it was made.
    """
    identity = {
        "bundle": bundle.archive.sha256,
        "host": platform.node(),
        "machine": platform.machine(),
        "versions": installed_versions(_LIBRARIES),
    }
    proof = memo.path_of(_folder(), "", identity)
    if memo.remembered(proof, identity):
        return False
    for stage in verify(bundle):
        if not stage.passed:
            reason = stage.problem or (
                f"a difference of {stage.difference:.2g}, above {stage.tolerance:g}"
            )
            raise BundleError(
                f"{bundle.archive.path} does not prove itself on this machine: stage "
                f"{stage.name}, {reason}",
                "featcache bundle verify shows all stages. Install the versions that "
                "made it: "
                + ", ".join(f"{k} {v}" for k, v in bundle.record.versions.items())
                + ".",
            )
    memo.remember(proof, identity)
    return True


def _folder() -> Path:
    """Where proofs are kept: ``$XDG_CACHE_HOME/featcache``, else in the home folder."""
    home = os.environ.get("XDG_CACHE_HOME")
    if home:
        return Path(home, "featcache", "proofs")
    try:
        return Path.home() / ".cache" / "featcache" / "proofs"
    except RuntimeError:  # no home folder
        return Path("/nonexistent")
