"""Proofs of bundles that this machine has seen, so that each is made once."""

import platform

from featcache.core import memo
from featcache.core.progress import SILENT, Reporter
from featcache.core.user_folder import user_folder
from featcache.core.versions import installed_versions
from featcache.deploy.bundle.open import Bundle
from featcache.deploy.bundle.record import LIBRARIES
from featcache.deploy.bundle.verify import first_failed, verify
from featcache.errors import BundleError


def prove(bundle: Bundle, reporter: Reporter = SILENT) -> None:
    """Verifies a bundle, unless this machine has with these libraries.

    Args:
        bundle: The bundle.
        reporter: Hears that it was verified.

    Raises:
        BundleError: The bundle does not give here what it gave where it was made.
    """
    identity = {
        "bundle": bundle.archive.sha256,
        "host": platform.node(),
        "machine": platform.machine(),
        "versions": installed_versions(LIBRARIES),
    }
    proof = memo.path_of(user_folder("proofs"), "", identity)
    if memo.remembered(proof, identity):
        return
    if failed := first_failed(verify(bundle)):
        versions = [f"{name} {text}" for name, text in bundle.record.versions.items()]
        raise BundleError(
            f"{bundle.archive.path} does not prove itself on this machine: stage "
            f"{failed.name}, {failed.failure}",
            "featcache bundle verify shows all stages. Install the versions that made "
            f"it: {', '.join(versions)}.",
        )
    memo.remember(proof, identity)
    reporter.message(
        f"{bundle.archive.path} passed its golden cases on this machine (checked once "
        "per machine)."
    )
