"""What is done with a large store, as one file and in part files: seconds and memory.

    python benchmarks/store_operations.py
    python benchmarks/store_operations.py --rows 100000 --folder /mnt/large

A store of --rows x --width random numbers is published once; a copy of it becomes one
in part files. Each operation is a process of its own, both kinds by turns: adding 1,000
rows; a tap of --tap columns for 1,000 of the rows; a full check; loading, into memory
and mapped; reading 1,000 rows with h5py alone; exports; deleting 500 rows; merging the
part files.

The page cache is as it comes, so that most of what is read is in it.

Own memory is RssAnon, looked up every 20 ms, beyond what the process had with its
libraries loaded; mapped files are not counted. Prints a table and appends to
benchmarks/store_operations.csv. Needs about five times the size of the matrix on disk.
"""

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
from measurements import append, peak_memory
from store import HEADER, LIBRARIES, seal

import featcache
from featcache.commands import cache
from featcache.dataset import manifest
from featcache.dataset.manifest import Manifest, Settings
from featcache.features import store
from featcache.features.store import publication

KINDS = {"one file": 2**60, "part files": 1}
NEW, GONE = 1000, 500  # rows that are added, and those of them that are deleted
OPERATIONS = (
    "publish", "tap", "verify", "load", "load mapped", "h5py", "parquet", "zarr",
    "prune", "compact",
)  # fmt: skip


def path_of(folder: Path) -> Path:
    """The store in a folder of either kind."""
    return store.store_path(folder / "cache/large/features", HEADER)


def build(folder: Path, rows: int, width: int) -> None:
    """A store, and a manifest that lacks the last of the images that will be added."""
    path = path_of(folder)
    path.parent.mkdir(parents=True)
    seal(path, 0, rows, width)
    store.publish(path, HEADER)
    numbers = range(rows + NEW - GONE)
    table = pd.DataFrame({"path": [f"images/{n:08d}.png" for n in numbers]})
    table["image_id"] = [hashlib.sha256(str(n).encode()).hexdigest() for n in numbers]
    table["group"], table["label"] = table["image_id"], "a"
    table["status"], table["mode"], table["phash"] = manifest.OK, "L", "0" * 16
    table["reason"] = ""
    for name in ("width", "height", "bytes"):
        table[name] = 1
    table = table[[*manifest.COLUMNS]]
    manifest.save(Manifest(folder / "cache/large", Settings("x", "x", "none"), table))


def prepare(name: str, path: Path, rows: int, width: int, tap: int) -> None:
    """Seals what an operation adds, before it is measured."""
    if name == "publish":
        seal(path, rows, NEW, width)
    if name == "tap":
        keys = store.open_store(path).keys.iloc[: 10 * NEW : 10]
        matrix = np.random.default_rng(0).standard_normal((NEW, tap), np.float32)
        store.seal(path, HEADER, {"tap": matrix}, keys)


def operate(name: str, path: Path, folder: Path) -> None:
    """One operation."""
    if name in ("publish", "tap"):
        store.publish(path, HEADER)
    elif name == "verify":
        (checked,) = cache.verify([path])
        assert checked.whole, checked.fault
    elif name == "load":
        featcache.load(path)
    elif name == "load mapped":
        featcache.load(path, mmap=True)
    elif name == "h5py":
        with h5py.File(path) as file:
            matrix = file["features"]
            matrix[:: len(matrix) // NEW]
    elif name == "parquet":
        cache.export(path, folder / "x.parquet", part_rows=100_000)
    elif name == "zarr":
        cache.export(path, folder / "x.zarr")
    elif name == "prune":
        (removal,) = cache.prune(folder / "cache", folder / "r", yes=True).removals
        assert removal.kind == "rows", removal
    elif name == "compact":
        store.compact(path)


def measure_here(name: str, kind: str, folder: Path, *shape: int) -> dict[str, Any]:
    """Measures in this process."""
    publication.PARTS_ABOVE = KINDS[kind]
    path = path_of(folder)
    prepare(name, path, *shape)
    written = _written()
    with peak_memory() as memory:
        start, cpu = time.perf_counter(), time.process_time()
        operate(name, path, folder)
        seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu
    opened = store.open_store(path)
    return {
        "seconds": round(seconds, 2),
        "cpu_seconds": round(cpu_seconds, 2),
        "own_memory_mib": round(memory["peak"] / 2**20),
        "written_mib": round((_written() - written) / 2**20),
        "files": opened.n_files,
    }


def _written() -> int:
    """Bytes that this process has written; what it has mapped is not counted."""
    text = Path("/proc/self/io").read_text()
    return int(next(x for x in text.splitlines() if x.startswith("wchar")).split()[1])


def measure(name: str, kind: str, folder: Path, args: argparse.Namespace) -> None:
    """Measures in a process of its own, and appends the row."""
    load = os.getloadavg()[0]
    shape = args.rows, args.width, args.tap
    command = [sys.executable, __file__, "--one", name, kind, str(folder)]
    command += [
        "--rows",
        str(shape[0]),
        "--width",
        str(shape[1]),
        "--tap",
        str(shape[2]),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{name}, {kind}: {done.stderr[-2000:]}")
    row = {
        "operation": name,
        "kind": kind,
        "rows": args.rows,
        "width": args.width,
        **json.loads(done.stdout.splitlines()[-1]),
        "load": round(load, 1),
    }
    append(Path(__file__), [row], LIBRARIES)
    print("  ".join(map(str, row.values())), flush=True)
    for export in (folder / "x.parquet", folder / "x.zarr"):
        shutil.rmtree(export, ignore_errors=True)


def main() -> None:
    """Reads the command line and measures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--tap", type=int, default=256)
    parser.add_argument("--operations", nargs="+", default=OPERATIONS)
    parser.add_argument("--kinds", nargs="+", default=list(KINDS))
    help_folder = "where the stores lie; they are used if they are there, and stay"
    parser.add_argument("--folder", type=Path, help=help_folder)
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        name, kind, folder = args.one
        shape = args.rows, args.width, args.tap
        print(json.dumps(measure_here(name, kind, Path(folder), *shape)))
        return
    with tempfile.TemporaryDirectory() as temp:
        measure_all(args.folder or Path(temp), args)


def measure_all(home: Path, args: argparse.Namespace) -> None:
    """Every operation, on both kinds by turns."""
    folders = {kind: home / kind.replace(" ", "-") for kind in KINDS}
    first, second = folders.values()
    if not first.exists():
        build(first, args.rows, args.width)
    if not second.exists():  # files are never written in place
        shutil.copytree(first, second, copy_function=os.link)
    for name in args.operations:
        for kind in args.kinds:
            if kind == "part files" or name != "compact":
                measure(name, kind, folders[kind], args)


if __name__ == "__main__":
    main()
