"""Answers over HTTP beside the model alone: latency, images per second, memory.

    python benchmarks/serve.py
    python benchmarks/serve.py --backbone densenet121 --images 256 --clients 1 8 32

A bundle of a network with random weights is served on the loopback. Clients send
generated X-rays as PNG files, one per request, over connections that stay open. "model"
is `Model.predict_proba` on the same images, decoded before, in batches of 32 (for one
client, one by one), before the server runs; medians of --repeats passes. Where
the machine has other work, processor time (of the server, and of the model alone, per
image) tells more than elapsed time. Appends to
benchmarks/serve.csv, with the load that the machine had before.
"""

import argparse
import http.client
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from measurements import append

HEADERS = {"content-type": "image/png"}
LIBRARIES = ("featcache", "openvino", "starlette", "uvicorn", "numpy")


def make_bundle_of(backbone: str, home: Path) -> tuple[Path, list[bytes]]:
    """A bundle of a logistic regression, and the files that clients send."""
    from featcache import backbones
    from featcache.commands.bundle import make_bundle
    from featcache.commands.extract import extract
    from featcache.commands.scan import scan
    from featcache.commands.train_head import HeadOptions, train_head
    from featcache.dataset import phantom
    from featcache.dataset.splits import SplitOptions

    dataset = scan(phantom.write(home / "chest", 120), home / "cache").manifest
    extract(dataset, [backbones.resolve(backbone, weights="random")], views=0)
    result = train_head(
        dataset,
        home / "reports",
        heads=["logreg"],
        split=SplitOptions(folds=3),
        options=HeadOptions(tune=False),
    )
    path = home / "model.fcb"
    make_bundle(dataset, result.runs[0], path)
    return path, [(dataset.root / one).read_bytes() for one in dataset.ok["path"]]


def model_rates(
    path: Path, files: list[bytes], count: int, repeats: int, sizes: set[int]
) -> Any:
    """Of the model alone, by size of batches: images per second, CPU ms an image."""
    from featcache.dataset import images
    from featcache.deploy.model import Candidate
    from featcache.deploy.opening import Place, open_model

    candidates = [
        Candidate(f"{n:064x}", images.read(files[n % len(files)])) for n in range(count)
    ]
    rates, processor = {}, {}
    with open_model(str(path), Place(Path(), Path())) as trained:
        for size in sizes:

            def run(size: int = size) -> None:
                for at in range(0, count, size):
                    trained.model.predict_proba(candidates[at : at + size])

            run()
            start = time.process_time()
            rates[size] = count / statistics.median(timed(run) for _ in range(repeats))
            used = time.process_time() - start
            processor[size] = 1000 * used / count / repeats
    return rates, processor


def timed(work: Callable[[], object]) -> float:
    """Seconds that some work takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


@contextmanager
def server(path: Path) -> Any:
    """Runs the command, and gives its process and its address."""
    command = [sys.executable, "-m", "featcache", "serve", str(path), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            address = urlsplit(process.stdout.readline().strip())
            yield process, (address.hostname, address.port)
        finally:
            process.terminate()


def clients(address: Any, files: list[bytes], n: int, count: int) -> list[float]:
    """Sends images from n connections at once; the seconds of each request."""

    def one(client: int) -> list[float]:
        connection = http.client.HTTPConnection(*address, timeout=60)
        seconds = []
        for number in range(client, count, n):
            body = files[number % len(files)]
            start = time.perf_counter()
            connection.request("POST", "/predict", body, HEADERS)
            reply = connection.getresponse()
            reply.read()
            seconds.append(time.perf_counter() - start)
            assert reply.status == 200, reply.status
        connection.close()
        return seconds

    with ThreadPoolExecutor(n) as pool:
        return [s for part in pool.map(one, range(n)) for s in part]


def processor_ms(process: Any) -> float:
    """Processor time of a process so far, in ms (Linux)."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return 1000 * (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def batches(address: Any) -> tuple[int, int]:
    """Calls of the model so far, and images in them."""
    connection = http.client.HTTPConnection(*address, timeout=60)
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    connection.close()
    names = "featcache_batches_total", "featcache_batched_images_total"
    calls, images = (int(re.search(rf"{n}{{.*}} (\d+)", text)[1]) for n in names)  # type: ignore[index]
    return calls, images


def memory(process: Any) -> float:
    """Resident MiB of a process (Linux)."""
    text = Path(f"/proc/{process.pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", text)[1]) / 1024  # type: ignore[index]


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--backbone", default="mobilenetv2")
    parser.add_argument("--images", type=int, default=96, help="in each pass")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    load = os.getloadavg()[0]
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        path, files = make_bundle_of(options.backbone, Path(folder))
        sizes = {1 if n == 1 else 32 for n in options.clients}
        rates, cpu = model_rates(path, files, options.images, options.repeats, sizes)
        with server(path) as (process, address):
            clients(address, files, 8, 32)
            for n in options.clients:
                before, passes = memory(process), []
                used, so_far = processor_ms(process), batches(address)
                for _ in range(options.repeats):
                    start = time.perf_counter()
                    seconds = clients(address, files, n, options.images)
                    passes.append((time.perf_counter() - start, seconds))
                rate = options.images / statistics.median(t for t, _ in passes)
                latency = sorted(1000 * s for _, part in passes for s in part)
                size = 1 if n == 1 else 32
                alone = rates[size]
                total = options.images * options.repeats
                calls, answered = (
                    b - a for a, b in zip(so_far, batches(address), strict=True)
                )
                rows.append(
                    {
                        "backbone": options.backbone,
                        "load": round(load, 1),
                        "clients": n,
                        "requests": total,
                        "p50_ms": round(latency[len(latency) // 2], 1),
                        "p95_ms": round(latency[int(len(latency) * 0.95)], 1),
                        "images_per_second": round(rate, 1),
                        "model_images_per_second": round(alone, 1),
                        "ratio": round(rate / alone, 2),
                        "batch": round(answered / calls, 1),
                        "cpu_ms": round((processor_ms(process) - used) / total, 1),
                        "model_cpu_ms": round(cpu[size], 1),
                        "mib_before": round(before),
                        "mib_after": round(memory(process)),
                    }
                )
                print(rows[-1], flush=True)
    append(Path(__file__), rows, LIBRARIES)


if __name__ == "__main__":
    main()
