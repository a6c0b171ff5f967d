"""Files that a user names to be written: nothing is lost by them."""

import re
from pathlib import Path

from featcache.errors import UsageError

# Records by the end of their path, and by their name beside another file.
_BY_PATH = (
    r".*/features/([^/]+\.parts/)?[^/]+\.(h5|damaged[0-9]*)"
    r"|.*/openvino/[^/]+\.(xml|bin|json)"
    r"|.*/audit/FC[0-9]+\.csv"
    r"|.*/explain/[^/]+/(maps\.json|maps\.npz|faithfulness\.json|study\.json)"
)
_RUN = r".*/runs/[^/]+/run\.json"  # which makes a run of a folder, also a new one
_OF_DATASET = (
    r"manifest\.csv|dataset\.json|thumbs\.npz|scan\.journal|splits-.+\.json"
    r"|extract-.+\.json"
)
_BESIDE = {
    "dataset.json": _OF_DATASET,
    "manifest.csv": _OF_DATASET,
    "run.json": r".+",
    "runs": r"(audit|labels)\.json",
}
_BEGINNING = 2048  # bytes in which a mark has to stand


def check_output(
    path: Path, argument: str, *, force: bool = False, mark: str = ""
) -> None:
    """Refuses to write over a file that is there.

    Args:
        path: The file to write.
        argument: The option that names it.
        force: Replace a file of the user's; never a record of featcache.
        mark: Text near the beginning of files that featcache wrote itself, and may
            replace.

    Raises:
        UsageError: The file is there, and must not be replaced.
    """
    is_new = not path.exists() and not path.is_symlink()
    if is_new and not re.fullmatch(_RUN, path.absolute().as_posix()):
        return
    if path.is_dir():
        raise UsageError(
            f"`{argument}` a new file", f"{path}, a folder", "Name another file."
        )
    if is_new or any(map(is_record, (path, path.resolve()))):
        raise UsageError(
            f"`{argument}` a file of your own",
            f"{path}, a record of featcache",
            "Name another file.",
        )
    if not force and not (mark and _begins_with(path, mark)):
        raise UsageError(
            f"`{argument}` a new file",
            f"{path}, which exists",
            "Name another file, or use `force=True` to replace it.",
        )


def check_output_folder(
    path: Path, argument: str, names: re.Pattern[str], *, force: bool = False
) -> None:
    """Refuses to write over what is there, but for what was written so before.

    Args:
        path: The folder to write.
        argument: The option that names it.
        names: What such a folder consists of, at its top.
        force: Replace a folder of nothing else.

    Raises:
        UsageError: There is a file, a link, a folder of other things, or any folder
            without ``force``.
    """
    if not path.exists() and not path.is_symlink():
        return
    is_own = path.is_dir() and not path.is_symlink()
    if not is_own or not all(names.fullmatch(one.name) for one in path.iterdir()):
        raise UsageError(
            f"`{argument}` a new folder, or one that was exported before",
            f"{path}, which is something else",
            "Name another folder.",
        )
    if not force:
        raise UsageError(
            f"`{argument}` a new folder",
            f"{path}, which exists",
            "Name another folder, or use `force=True` to replace it.",
        )


def is_record(path: Path) -> bool:
    """Whether a file belongs to a dataset, a store, a run or their results."""
    path = path.absolute()
    by_name = any(
        re.fullmatch(names, path.name) and path.with_name(beside).exists()
        for beside, names in _BESIDE.items()
    )
    return by_name or re.fullmatch(_BY_PATH, path.as_posix()) is not None


def _begins_with(path: Path, mark: str) -> bool:
    with path.open("rb") as file:
        return mark.encode() in file.read(_BEGINNING)
