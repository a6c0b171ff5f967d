"""Backbones of other libraries: features and speed beside their own frameworks.

    python benchmarks/backbones.py
    python benchmarks/backbones.py --part speed --rounds 9

Needs the extra torch and onnxruntime. All weights are random; nothing is downloaded.

Features: each architecture at its real size is exported. X-rays of
$FEATCACHE_REAL_DATA (phantoms without) go through featcache's preprocessing and engine,
and through the framework with its own transforms. "difference" is the largest one of an
embedding relative to its largest number, the worst of the images.

Speed: featcache's OpenVINO engine takes uint8 pixels and scales them itself; ONNX
Runtime runs the same file, and PyTorch the network that it was exported from, on
tensors that are scaled already. They take turns in each round; ratios are medians over
the rounds.
Prints tables, and appends every measurement to benchmarks/backbones.csv.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from measurements import append
from PIL import Image

FEATURES = (
    "timm:resnet50", "timm:vit_small_patch14_dinov2", "timm:convnext_tiny",
    "timm:efficientnet_b0", "hf:rad-dino", "hf:vit", "hf:siglip_vision_model",
    "xrv:densenet121-res224-all",
)  # fmt: skip
SPEED = ("timm:vit_small_patch16_224", "timm:resnet50")
# RAD-DINO's architecture and preprocessing, without its weights.
RAD_DINO = {
    "config.json": {"model_type": "dinov2", "image_size": 518, "patch_size": 14},
    "preprocessor_config.json": {
        "image_processor_type": "BitImageProcessor",
        "size": {"shortest_edge": 518},
        "crop_size": {"height": 518, "width": 518},
        "image_mean": [0.5307, 0.5307, 0.5307],
        "image_std": [0.2583, 0.2583, 0.2583],
        "resample": 3,
    },
}
LIBRARIES = (
    "featcache", "torch", "timm", "transformers", "torchxrayvision", "openvino",
    "onnxruntime", "onnxscript", "numpy", "pillow",
)  # fmt: skip


def exported(spec: str, folder: Path) -> tuple[Any, Any]:
    """The network in its own framework, and in a file with its descriptor."""
    from featcache.backbones.exporting import FRAMEWORKS, Request
    from featcache.backbones.files import from_file
    from featcache.core.io import write_json

    framework, _, name = spec.partition(":")
    if name == "rad-dino":
        name = str(folder / name)
        Path(name).mkdir()
        for file, values in RAD_DINO.items():
            (Path(name) / file).write_text(json.dumps(values))
    original = FRAMEWORKS[framework].load(Request(name, random=True))
    path = folder / "network.onnx"
    original.write(path)
    write_json(path.with_suffix(".json"), original.keys)
    return original, from_file(path, None, None)


def engine_of(network: Any, batch: int = 32) -> Any:
    """Featcache's engine on a network without its taps."""
    from featcache.backbones.engines.openvino import OpenVINOEngine
    from featcache.backbones.graphs.pixels import with_pixels

    return OpenVINOEngine(with_pixels(network), batch_size=batch)


def xrays(count: int) -> list[Image.Image]:
    """X-rays from all over the folder, or phantoms."""
    from featcache.dataset import phantom

    folder = Path(os.environ.get("FEATCACHE_REAL_DATA", "")) / "data/darkcovid"
    files = sorted(folder.rglob("*.jp*g")) if folder.is_dir() else []
    if files:
        step = max(len(files) // count, 1)
        return [Image.open(x).convert("RGB") for x in files[::step][:count]]
    labels = phantom.CLASSES
    drawn = [phantom.draw(labels[n % len(labels)], n, size=320) for n in range(count)]
    return [Image.fromarray(one.image).convert("RGB") for one in drawn]


def features(spec: str, images: list[Image.Image]) -> dict[str, Any]:
    """How far featcache is from the framework with its own transforms."""
    from featcache.dataset import views

    with tempfile.TemporaryDirectory() as folder:
        original, network = exported(spec, Path(folder))
        pixels = np.stack([views.render(image, network.resize) for image in images])
        (outputs,) = engine_of(network).run([pixels])
    pairs = [
        (ours, original.embed(original.tensor(image))[0])
        for ours, image in zip(outputs["features"], images, strict=True)
    ]
    differences = [float(np.abs(a - b).max() / np.abs(b).max()) for a, b in pairs]
    cosines = [float(a @ b / np.linalg.norm(a) / np.linalg.norm(b)) for a, b in pairs]
    spread = float(np.std([b for _, b in pairs], axis=0).max())
    largest = float(max(np.abs(b).max() for _, b in pairs))
    return {
        "part": "features", "backbone": spec, "input_size": network.input_size,
        "images": len(images), "difference": max(differences),
        "median_difference": statistics.median(differences), "cosine": min(cosines),
        "spread": spread / largest,
    }  # fmt: skip


def speed(spec: str, count: int, batch: int, rounds: int) -> dict[str, Any]:
    """Images per second of the three, in turns."""
    import onnxruntime

    from featcache.dataset import views

    with tempfile.TemporaryDirectory() as folder:
        original, network = exported(spec, Path(folder))
        pixels = [views.render(image, network.resize) for image in xrays(count)]
        tensors = np.concatenate([original.scaled(one) for one in pixels])
        stacked = np.stack(pixels)
        session = onnxruntime.InferenceSession(
            network.file, providers=["CPUExecutionProvider"]
        )
        engine = engine_of(network)
        parts = [slice(at, at + batch) for at in range(0, count, batch)]

        def by_featcache() -> None:
            list(engine.run(stacked[at : at + 32] for at in range(0, count, 32)))

        def by_onnxruntime() -> None:
            for part in parts:
                session.run([network.output], {"pixels": tensors[part]})

        def by_torch() -> None:
            for part in parts:
                original.embed(tensors[part])

        runs = [by_featcache, by_onnxruntime, by_torch]
        rates = taking_turns(runs, count, rounds)
    ours, onnx, torch = (statistics.median(one) for one in rates)
    return {
        "part": "speed", "backbone": spec, "input_size": network.input_size,
        "images": count, "batch": batch, "rounds": rounds, "featcache": ours,
        "onnxruntime": onnx, "torch": torch,
        "to_onnxruntime": ratio(rates[0], rates[1]),
        "to_torch": ratio(rates[0], rates[2]),
    }  # fmt: skip


def taking_turns(
    runs: list[Callable[[], None]], count: int, rounds: int
) -> list[list[float]]:
    """Images per second of each in each round, after one that is not counted."""
    rates: list[list[float]] = [[] for _ in runs]
    for number in range(rounds + 1):
        for own, run in zip(rates, runs, strict=True):
            started = time.perf_counter()
            run()
            if number:
                own.append(count / (time.perf_counter() - started))
    return rates


def ratio(ours: list[float], theirs: list[float]) -> float:
    """The median over the rounds of the ratio of two rates."""
    return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))


COLUMNS = (
    "part", "backbone", "input_size", "images", "difference", "median_difference",
    "cosine", "spread", "batch", "rounds", "featcache", "onnxruntime", "torch",
    "to_onnxruntime", "to_torch", "load",
)  # fmt: skip


def main() -> None:
    """Measures, prints and appends."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--part", choices=["features", "speed"])
    parser.add_argument("--backbone", action="append")
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--count", type=int, default=64)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    images, rows = xrays(options.images), []
    parts = [options.part] if options.part else ["features", "speed"]
    for part in parts:
        for spec in options.backbone or {"features": FEATURES, "speed": SPEED}[part]:
            load = round(os.getloadavg()[0], 2)
            if part == "features":
                row = features(spec, images)
                line = (
                    f"{row['difference']:9.2g} {row['median_difference']:9.2g} "
                    f"{row['cosine']:.9f} {row['spread']:8.2g}"
                )
            else:
                row = speed(spec, options.count, options.batch, options.rounds)
                line = (
                    f"{row['featcache']:7.2f} {row['onnxruntime']:7.2f} "
                    f"{row['torch']:7.2f} /s   x {row['to_onnxruntime']:.2f} of "
                    f"onnxruntime, x {row['to_torch']:.2f} of torch"
                )
            print(f"{part:8} {spec:32} {row['input_size']:4} px {line}", flush=True)
            row |= {"load": load}
            rows.append({name: rounded(row.get(name, "")) for name in COLUMNS})
    append(Path(__file__), rows, LIBRARIES)


def rounded(value: Any) -> Any:
    """A number as the table keeps it."""
    return float(f"{value:.9g}") if isinstance(value, float) else value


if __name__ == "__main__":
    main()
