"""Versions of installed packages."""

from collections.abc import Sequence
from importlib import metadata


def installed_versions(packages: Sequence[str]) -> dict[str, str]:
    """Version by package, without those that are not installed."""
    versions = {}
    for name in packages:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions
