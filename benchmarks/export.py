"""Exported models, side by side: size, agreement with the model, images per second.

    python benchmarks/export.py
    python benchmarks/export.py --backbone mobilenetv2 --images 64

One network with random weights; heads trained on its embeddings of phantoms; each head,
and an ensemble of all, exported to each format and run in the format's own runtime.
Agreement is on phantoms that the heads never saw, and on those they were trained on.
Prints a table, and appends every measurement to benchmarks/export.csv, with the load
that the machine had before.

The rate is of the whole file, from pixels in memory to probabilities, in batches of
--batch; "engine" is that of the bare network in featcache's OpenVINO engine.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from measurements import append

HEADS = ("logreg", "svm", "xgboost", "mlp")
LIBRARIES = (
    "featcache", "tensorflow", "keras", "openvino", "onnx", "onnxruntime", "tf2onnx",
    "numpy",
)  # fmt: skip


@dataclass
class Member:
    """A head on the network's embedding."""

    head: Any
    calibrator: Any
    columns: tuple[tuple[int, str], ...] = ((0, "features"),)
    renderings: tuple[int, ...] = field(default=(0,))


def remembering(pixel_graph: Any) -> Any:
    """The same network, which embeds each array of pixels once."""
    by_array: dict[int, Any] = {}

    class Remembering(type(pixel_graph)):  # type: ignore[misc]
        def embed(self, pixels: np.ndarray) -> Any:
            if id(pixels) not in by_array:
                by_array[id(pixels)] = pixels, super().embed(pixels)
            return by_array[id(pixels)][1]

    return Remembering(pixel_graph.model, pixel_graph.dtype)


def rate(predict: Callable[[np.ndarray], Any], pixels: np.ndarray, batch: int) -> float:
    """Images per second: the median over three passes after a first one."""
    seconds = []
    for _ in range(4):
        started = time.perf_counter()
        for at in range(0, len(pixels), batch):
            predict(pixels[at : at + batch])
        seconds.append(time.perf_counter() - started)
    return len(pixels) / statistics.median(seconds[1:])


def engine_rate(graph: Any, pixels: np.ndarray, folder: Path) -> float:
    """Of the bare network in featcache's own engine."""
    from featcache.backbones.engines import openvino

    openvino.convert(graph, folder / "network.xml")
    engine = openvino.OpenVINOEngine(folder / "network.xml")
    batches = [pixels[at : at + 32] for at in range(0, len(pixels), 32)]
    return rate(lambda _: list(engine.run(batches)), pixels, len(pixels))


def measure(parts: Any, to: str, folder: Path, data: dict[str, Any]) -> dict[str, Any]:
    """Exports a model, then runs the file."""
    from featcache.deploy.exporting import TOLERANCE, export
    from featcache.deploy.formats import FORMATS
    from featcache.deploy.parity_images import ParityImages

    path = folder / f"model{FORMATS[to].suffix}"
    (resize,) = parts.resizes
    started = time.perf_counter()
    exported = export(
        parts,
        path,
        to=to,
        images=ParityImages({resize: data["new"]}, "phantoms"),
        force=True,
    )
    seconds = time.perf_counter() - started
    (name,) = exported.inputs
    predict = FORMATS[to].load(path)

    def run(pixels: np.ndarray) -> np.ndarray:
        return predict({name: pixels})

    batch = data["batch"]
    seen = data["seen"]
    p = np.concatenate(
        [run(seen[at : at + batch]) for at in range(0, len(seen), batch)]
    )
    apart = np.abs(p - parts.proba(parts.embed({resize: seen}))).max(axis=1)
    return {
        "to": to,
        "megabytes": round(exported.size / 2**20, 2),
        "export_seconds": round(seconds, 1),
        "images": exported.parity.images,
        "difference": f"{exported.parity.difference:.1e}",
        "on_edge": exported.parity.on_edge,
        "difference_trained_on": f"{apart.max():.1e}",
        "beyond_tolerance_trained_on": int((apart > TOLERANCE).sum()),
        "images_per_second": round(rate(run, data["new"][: 2 * batch], batch), 1),
    }


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--backbone", default="densenet121")
    parser.add_argument("--train", type=int, default=120, help="images to train on")
    parser.add_argument("--images", type=int, default=64, help="images to run")
    parser.add_argument("--batch", type=int, default=8)
    options = parser.parse_args()

    from featcache import backbones, heads
    from featcache.deploy.formats import FORMATS
    from featcache.deploy.graph import ModelParts, PixelGraph
    from featcache.deploy.parity_images import generated
    from featcache.evaluation.calibration import Calibrator

    load = os.getloadavg()[0]
    network = backbones.resolve(options.backbone, weights="random")
    graph = backbones.with_pixels(backbones.build(network), network)
    pixel_graph, resize = remembering(PixelGraph(graph)), network.resize
    pixels = generated([resize], options.train + options.images).pixels[resize]
    train, new = pixels[: options.train], pixels[options.train :]
    X = pixel_graph.embed(train)["features"]
    y = np.arange(len(X)) % 3
    classes = ["COVID", "No_findings", "Pneumonia"]
    calibrator = Calibrator("temperature", {"temperature": 1.2})
    members = {name: Member(heads.make(name).fit(X, y), calibrator) for name in HEADS}
    models = {
        name: ModelParts(classes, [pixel_graph], [one]) for name, one in members.items()
    }
    models["ensemble"] = ModelParts(
        classes, [pixel_graph], [*members.values()], [0.4, 0.3, 0.2, 0.1], calibrator
    )
    seen = train[: options.images // 2]
    data = {"seen": seen, "new": new, "batch": options.batch}
    with tempfile.TemporaryDirectory() as temp:
        bare = engine_rate(graph, new, Path(temp))
        print(f"{network.text}, engine alone: {bare:.1f} images/s; load {load:.1f}")
        for name, parts in models.items():
            about = {
                "backbone": network.text,
                "head": name,
                "load": round(load, 1),
                "engine_images_per_second": round(bare, 1),
            }
            rows = [measure(parts, to, Path(temp), data) for to in FORMATS]
            for row in rows:
                cells = (f"{key} {value}" for key, value in row.items())
                print(name, *cells, sep="  ", flush=True)
            append(Path(__file__), [about | row for row in rows], LIBRARIES)


if __name__ == "__main__":
    main()
