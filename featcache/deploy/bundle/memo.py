"""Proofs of bundles that this machine has seen, so that each is made once."""

import platform
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from featcache.core import checked
from featcache.core.io import digest
from featcache.core.user_folder import user_folder
from featcache.core.versions import installed_versions
from featcache.deploy.bundle.open import Bundle
from featcache.deploy.bundle.record import LIBRARIES
from featcache.deploy.bundle.verify import first_failed, verify
from featcache.errors import BundleError


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
        "versions": installed_versions(LIBRARIES),
    }
    memo = user_folder("proofs") / f"{digest(identity)[:32]}.json"
    if _is_proven(memo, identity):
        return False
    if failed := first_failed(verify(bundle)):
        versions = [f"{name} {text}" for name, text in bundle.record.versions.items()]
        raise BundleError(
            f"{bundle.archive.path} does not prove itself on this machine: stage "
            f"{failed.name}, {failed.failure}",
            "featcache bundle verify shows all stages. Install the versions that made "
            f"it: {', '.join(versions)}.",
        )
    with suppress(OSError):  # else the next call proves it again
        checked.write_record(memo, identity)
    return True


def _is_proven(memo: Path, identity: Mapping[str, object]) -> bool:
    try:
        record = checked.read_record(memo)
    except (OSError, ValueError):
        return False
    return all(record.get(key) == value for key, value in identity.items())
