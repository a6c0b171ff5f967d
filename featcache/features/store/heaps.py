"""Texts of any length in HDF5, which lie in heaps of a file without checksums.

HDF5 walks a heap from object to object by their sizes, and where one is zero it never
ends (https://github.com/HDFGroup/hdf5/issues/1707): so a stretch of zeros, as the crash
of a machine leaves it, would hang whoever opens the file.
"""

import h5py
import numpy as np

_REFERENCE = np.dtype([("length", "<u4"), ("heap", "<u8"), ("object", "<u4")])
_HEADER = 16  # bytes, of a heap and of each of its objects


def refuse_endless(column: h5py.Dataset) -> None:
    """Refuses a column of texts whose heaps HDF5 would walk for ever.

    Args:
        column: Of a file that is open for reading. One in chunks, as other programs
            may have written it, is not looked at.

    Raises:
        ValueError: An object of a heap takes no room.
    """
    offset, size = column.id.get_offset(), len(column) * _REFERENCE.itemsize
    if offset is None or column.id.get_storage_size() != size:
        return
    data = np.memmap(column.file.filename, np.uint8, "r")
    references = data[offset : offset + size].view(_REFERENCE)
    heaps = np.unique(references["heap"])
    heaps = heaps[(heaps > 0) & (heaps < len(data) - _HEADER)].astype(np.int64)
    _, sizes = _headers(data, heaps)
    ends = heaps + np.minimum(sizes, np.uint64(len(data))).astype(np.int64)
    at, ends = heaps + _HEADER, np.minimum(ends, len(data))
    while (is_left := at + _HEADER <= ends).any():
        at, ends = at[is_left], ends[is_left]
        numbers, sizes = _headers(data, at)
        padded = (sizes + np.uint64(7)) & ~np.uint64(7)
        room = np.where(numbers > 0, padded + np.uint64(_HEADER), sizes)
        if (room == 0).any():
            raise ValueError(f"{column.name.strip('/')} with an empty object in a heap")
        at = at + np.minimum(room, np.uint64(len(data))).astype(np.int64)


def _headers(data: np.ndarray, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Numbers and sizes (n,) of the objects at (n,) offsets."""
    words = data[at[:, None] + np.arange(_HEADER)].view("<u8")
    return words[:, 0] & np.uint64(0xFFFF), words[:, 1]
