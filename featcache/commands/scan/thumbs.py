"""Small pictures, kept so that a new image does not cost opening all others again."""

import zipfile
import zlib
from pathlib import Path

import numpy as np

from featcache.core.io import atomic_path, digest, digest_arrays
from featcache.dataset.images import DECODER_VERSION, THUMB_SIDE

FILE = "thumbs.npz"
_BROKEN = (
    *(OSError, EOFError, ValueError, KeyError, TypeError, IndexError, RuntimeError),
    *(zipfile.BadZipFile, zlib.error),
)


def load(folder: Path) -> dict[str, np.ndarray]:
    """Reads what an earlier scan kept, (1024,) uint8 by image_id.

    What is missing, damaged, or decoded by other rules is as if it was never there:
    the pictures are opened again.
    """
    try:
        # Opened here: NumPy leaves a file open that turns out to be no zip.
        with (
            (folder / FILE).open("rb") as raw,
            np.load(raw, allow_pickle=False) as file,
        ):
            ids, thumbs, written = file["image_id"], file["thumb"], file["digest"]
    except _BROKEN:
        return {}
    whole = str(written) == _digest(ids, thumbs)
    if not whole or thumbs.shape != (len(ids), THUMB_SIDE**2):
        return {}
    return dict(zip(ids.astype(str).tolist(), thumbs, strict=True))


def save(folder: Path, thumbs: dict[str, np.ndarray]) -> None:
    """Keeps small pictures, 1 KiB each; they hardly compress."""
    ids = np.array([*thumbs], dtype="S64")
    pictures = np.stack([*thumbs.values()])
    with atomic_path(folder / FILE) as temp, temp.open("wb") as file:
        np.savez(file, image_id=ids, thumb=pictures, digest=_digest(ids, pictures))


def _digest(ids: np.ndarray, thumbs: np.ndarray) -> str:
    return digest([DECODER_VERSION, digest_arrays(ids, thumbs)])
