"""Adding 1,000 rows to stores of several sizes: one file written anew, or a part file.

    python benchmarks/store.py
    python benchmarks/store.py --rows 100000 300000 --publications 5

Rows of --width random numbers are published once; then 1,000 rows are added, by turns
to a copy that is one file (the limit for part files is raised) and to one in part files
(it is lowered). Prints a table, and appends to benchmarks/store.csv the seconds of each
publication, the bytes that it wrote and the seconds of opening the store, with the load
that the machine had before.
"""

import argparse
import hashlib
import os
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from measurements import append

from featcache.features import store
from featcache.features.contract import Contract
from featcache.features.store import Header, publication

LIBRARIES = ("featcache", "h5py", "numpy", "pandas")
HEADER = Header(
    contract=Contract.from_json({"backbone": "random", "input_size": 224}),
    policies=[],
    weights="none",
    weights_key="none",
    engine="numpy",
    versions={},
    notes={},
)
BLOCK = 20_000


def seal(path: Path, first: int, count: int, width: int) -> None:
    """Seals rows of images first..first+count-1."""
    for start in range(first, first + count, BLOCK):
        numbers = range(start, min(start + BLOCK, first + count))
        ids = [hashlib.sha256(str(n).encode()).hexdigest() for n in numbers]
        paths = [f"images/{n:08d}.png" for n in numbers]
        keys = pd.DataFrame({"image_id": ids, "view": 0, "policy": -1, "path": paths})
        rng = np.random.default_rng(start)
        matrix = rng.standard_normal((len(keys), width), np.float32)
        store.seal(path, HEADER, {"features": matrix}, keys)


def publish(path: Path, *, in_parts: bool) -> float:
    """Seconds of a publication."""
    publication.PARTS_ABOVE = 1 if in_parts else 2**60
    start = time.perf_counter()
    store.publish(path, HEADER)
    return time.perf_counter() - start


def files(path: Path) -> dict[int, int]:
    """Bytes of the files of a store, by their numbers in the file system."""
    status = [file.stat() for file in (path, *store.data_files(path))]
    return {one.st_ino: one.st_size for one in status}


def measure(folder: Path, rows: int, width: int, publications: int) -> None:
    """Measures both kinds by turns, on two copies of the same rows."""
    paths = {kind: folder / f"{kind}.h5" for kind in ("one file", "part files")}
    for path in paths.values():
        seal(path, 0, rows, width)
        publish(path, in_parts=False)
    for number in range(publications):
        for kind, path in paths.items():
            load, before = os.getloadavg()[0], files(path)
            seal(path, rows + 1000 * number, 1000, width)
            seconds = publish(path, in_parts=kind == "part files")
            written = [n for inode, n in files(path).items() if inode not in before]
            start = time.perf_counter()
            opened = store.open_store(path)
            row = {
                "kind": kind,
                "rows": rows,
                "width": width,
                "gib": round(rows * width * 4 / 2**30, 2),
                "publication": number + 1,
                "seconds": round(seconds, 2),
                "written_mib": round(sum(written) / 2**20, 1),
                "files": opened.n_files,
                "open_seconds": round(time.perf_counter() - start, 2),
                "load": round(load, 1),
            }
            append(Path(__file__), [row], LIBRARIES)
            print("  ".join(map(str, row.values())), flush=True)
    for path in paths.values():
        store.remove(path)


def main() -> None:
    """Reads the command line and measures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[65_536, 315_000])
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--publications", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where the stores lie meanwhile")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        for rows in args.rows:
            measure(Path(folder), rows, args.width, args.publications)


if __name__ == "__main__":
    main()
