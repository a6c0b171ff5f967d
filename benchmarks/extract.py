"""Extraction, side by side: from image files to sealed HDF5.

    python benchmarks/extract.py --source data/metadata.csv --images 256

Each measurement runs in a process of its own and starts when the libraries are
loaded; the variants take turns, so that a noisy machine is noisy for all of them.
Prints medians and ratios, and appends every measurement to benchmarks/extract.csv.
``--together`` compares one call for all backbones with a call for each: whole
processes, and again without the loading of libraries.

Variants:
    study            the study's loop: load_img, np.array, preprocess_input, predict
    aucmedi          AUCMEDI's DataGenerator and network, cut behind the pooling
    aucmedi-threads  the same, with a thread a core for the images
    hand-openvino    OpenVINO's queue of requests and a pool of threads that decode,
                     network converted before (extract_plain.py)
    tensorflow       featcache, TensorFlow engine
    openvino         featcache, OpenVINO engine, network converted before
    int8             featcache, --precision int8, network quantised before
    ceiling          OpenVINO alone on ready tensors in memory, float32

A backbone is a name of the table, with random weights, or a .keras file. Those of
AUCMEDI need ``--aucmedi``, a Python that has it (others.txt), and a name of the table.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import extract_plain
import numpy as np
from measurements import Clock, append, load, peak_mib

STUDY = ("densenet121", "resnet50", "inceptionv3", "xception", "vgg19")
VARIANTS = (
    *("study", "aucmedi", "aucmedi-threads", "hand-openvino"),
    *("tensorflow", "openvino", "int8", "ceiling"),
)
LIBRARIES = ("featcache", "tensorflow", "keras", "openvino", "nncf", "numpy", "pillow")
CONVERTED = ("hand-openvino", "openvino", "int8", "ceiling")
AUCMEDI = {
    "densenet121": "DenseNet121",
    "resnet50": "ResNet50",
    "inceptionv3": "InceptionV3",
    "xception": "Xception",
    "vgg19": "VGG19",
}


def measure(variant: str, names: list[str], work: Path) -> dict[str, Any]:
    """Runs one variant in this process; returns seconds and what came out."""
    from featcache.dataset import manifest

    dataset = manifest.load(work / "cache" / "set")
    paths = [dataset.root / path for path in dataset.ok["path"]]
    if variant == "study":
        return extract_plain.study(names[0], paths)
    if variant == "hand-openvino":
        return extract_plain.hand_openvino(names[0], paths, work)
    if variant == "ceiling":
        return ceiling(names[0], dataset, work)
    return featcache(variant, names, dataset, work)


def featcache(
    variant: str, names: list[str], dataset: Any, work: Path
) -> dict[str, Any]:
    """``featcache extract`` into an empty dataset folder."""
    from featcache.commands.extract import extract
    from featcache.features import store

    fresh = work / "cache" / f"fresh-{time.time_ns()}"
    fresh.mkdir()
    try:
        networks = [extract_plain.resolve(name) for name in names]
        clock = Clock()
        results = extract(
            replace(dataset, folder=fresh),
            networks,
            engine="tensorflow" if variant == "tensorflow" else "openvino",
            precision="int8" if variant == "int8" else "float32",
        )
        seconds, cpu = clock.seconds, clock.cpu
        features = store.open_store(results[0].path).features()
    finally:
        shutil.rmtree(fresh)
    steady = max(result.seconds for result in results)
    rows = features[:16].tolist()
    return {"seconds": seconds, "steady": steady, "cpu": cpu, "features": rows}


def ceiling(name: str, dataset: Any, work: Path) -> dict[str, Any]:
    """OpenVINO's own loop over tensors that are in memory already."""
    import openvino as ov

    from featcache import backbones
    from featcache.backbones.engines.openvino import convert
    from featcache.dataset import images, views

    network = extract_plain.resolve(name)
    side = network.input_size
    paths = [dataset.root / path for path in dataset.ok["path"]]
    pixels = [views.render(images.decode(p.read_bytes()), side) for p in paths]
    batches = [np.stack(pixels[i : i + 8]) for i in range(0, len(pixels) // 8 * 8, 8)]
    path = work / "ceiling" / f"{Path(name).stem}.xml"
    if not path.exists():
        convert(backbones.with_pixels(backbones.build(network), network), path)
    model = ov.Core().read_model(path)
    model.reshape([8, side, side, 3])
    config = {"PERFORMANCE_HINT": "THROUGHPUT", "INFERENCE_PRECISION_HINT": "f32"}
    queue = ov.AsyncInferQueue(ov.Core().compile_model(model, "CPU", config))
    queue.start_async({0: batches[0]})
    queue.wait_all()
    clock = Clock()
    for batch in batches:
        queue.start_async({0: batch})
    queue.wait_all()
    whole = len(pixels) / (8 * len(batches))
    seconds, cpu = clock.seconds * whole, clock.cpu * whole
    return {"seconds": seconds, "steady": seconds, "cpu": cpu, "features": None}


def prepare(source: Path, images: int, work: Path) -> int:
    """Scans the images and keeps so many of them, spread over the set."""
    from featcache.commands.scan import scan
    from featcache.dataset import manifest

    found = scan(source, work / "cache", dataset="set").manifest
    ok = found.ok
    keep = np.linspace(0, len(ok) - 1, min(images, len(ok))).astype(int)
    table = ok.iloc[keep].reset_index(drop=True)
    manifest.save(replace(found, table=table))
    paths = [str(found.root / path) for path in table["path"]]
    (work / "paths.json").write_text(json.dumps(paths))
    return len(table)


def run(variant: str, names: list[str], options: argparse.Namespace) -> dict[str, Any]:
    """Measures in a process of its own, for its peak memory."""
    work, environment = options.work, dict(os.environ)
    command = [sys.executable, __file__, "--work", str(work), "--one", variant, *names]
    if variant.startswith("aucmedi"):
        script = str(Path(__file__).with_name("extract_aucmedi.py"))
        workers = str(os.cpu_count() if variant.endswith("threads") else 1)
        architecture, paths = AUCMEDI[names[0]], str(work / "paths.json")
        command = [options.aucmedi, script, architecture, workers, paths]
        environment.pop("PYTHONPATH", None)
    about = {"load": load(), "source": options.data}
    clock = Clock()
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=environment
    )
    if done.returncode:
        sys.exit(f"{variant} {names}: {done.stderr[-2000:]}")
    about["process"] = clock.seconds
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return about | result


def skipped(variant: str, name: str, options: argparse.Namespace) -> str:
    """Why a variant of a backbone is not measured; empty if it is."""
    if not variant.startswith("aucmedi"):
        return ""
    if not options.aucmedi:
        return "needs --aucmedi PYTHON, of an environment that has it"
    return "" if name in AUCMEDI else "AUCMEDI has no such network"


def by_backbone(options: argparse.Namespace, count: int) -> list[dict[str, Any]]:
    """Every variant of every backbone, taking turns; prints medians and ratios."""
    found: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    rows = []
    for turn in range(-1, options.repeats):
        for name in options.backbones:
            for variant in options.variants:
                reason = skipped(variant, name, options)
                if turn >= 0 and not reason:
                    one = run(variant, [name], options)
                    found[name, variant].append(one)
                    rows.append(row(variant, name, count, one))
                elif reason and turn < 0:
                    print(f"{name} {variant} is left out: {reason}")
                elif variant in CONVERTED:  # converts the networks beforehand
                    run(variant, [name], options)
    show(found, options, count)
    return rows


def row(what: str, name: str, count: int, one: dict[str, Any]) -> dict[str, Any]:
    """One measurement as a line of the CSV."""
    return {
        "what": what,
        "backbone": "+".join(Path(one).stem for one in name.split("+")),
        "images": count,
        "seconds": round(one["seconds"], 3),
        "rate": round(count / one["seconds"], 2),
        "steady_rate": round(count / one["steady"], 2),
        "peak_mib": one.get("peak_mib"),
        "cpu_seconds": round(one["cpu"], 2),
        "load": one["load"],
        "other_versions": one.get("versions", ""),
        "source": one["source"],
    }


def show(found: Any, options: argparse.Namespace, count: int) -> None:
    """Prints the table: img/s are medians, ratios are those of medians."""
    print(f"{'backbone':20}{'variant':16}{'img/s':>7}{'steady':>8}{'CPU s':>8}", end="")
    print(f"{'x study':>9}{'x (steady)':>11}{'% ceiling':>10}{'MiB':>6}{'diff':>9}")
    first = options.variants[0]
    for name in options.backbones:
        variants = [v for v in options.variants if found[name, v]]
        seconds, steady, cpu = (
            {v: statistics.median(one[key] for one in found[name, v]) for v in variants}
            for key in ("seconds", "steady", "cpu")
        )
        for variant in variants:
            ones = found[name, variant]
            share = steady.get("ceiling", float("nan")) / steady[variant]
            print(
                f"{Path(name).stem[:19]:20}{variant:16}{count / seconds[variant]:7.1f}"
                f"{count / steady[variant]:8.1f}{cpu[variant]:8.1f}"
                f"{seconds[first] / seconds[variant]:9.2f}"
                f"{steady[first] / steady[variant]:11.2f}{share:10.0%}"
                f"{max(one['peak_mib'] for one in ones):6.0f}"
                f"{difference(found[name, first][0], ones[0]):>9}"
            )


def difference(one: dict[str, Any], two: dict[str, Any]) -> str:
    """Largest difference relative to the largest feature."""
    if one["features"] is None or two["features"] is None:
        return ""
    a, b = np.array(one["features"]), np.array(two["features"])
    return f"{np.abs(a - b).max() / np.abs(a).max():.0e}"


def together(options: argparse.Namespace, count: int) -> list[dict[str, Any]]:
    """All backbones in one call against one call each, whole processes."""
    names, rows = options.backbones, []
    ratios: dict[str, list[float]] = {"process": [], "seconds": []}
    for turn in range(-1, options.repeats):
        one = run("openvino", names, options)
        each = [run("openvino", [name], options) for name in names]
        if turn < 0:
            continue  # converts the networks beforehand
        for what, found in ratios.items():
            found.append(one[what] / sum(e[what] for e in each))
        rows.append(row("one call", "+".join(names), count, one))
        rows += [
            row("a call each", n, count, e) for n, e in zip(names, each, strict=True)
        ]
    print(f"one call of {len(names)} backbones / a call each, {count} images:")
    for what, label in (("process", "whole call"), ("seconds", "without imports")):
        listed = ", ".join(f"{ratio:.3f}" for ratio in ratios[what])
        print(f"{label:16} {statistics.median(ratios[what]):.3f} (median of {listed})")
    return rows


def main() -> None:
    """Parses and runs."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--source", type=Path, help="folder or CSV; else phantoms")
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--backbones", nargs="+", default=list(STUDY))
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS))
    parser.add_argument("--aucmedi", metavar="PYTHON", help="one that has AUCMEDI")
    parser.add_argument("--together", action="store_true", help="one call or many")
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--one", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        result = measure(options.one[0], options.one[1:], options.work)
        print(json.dumps(result | {"peak_mib": peak_mib()}))
        return
    with tempfile.TemporaryDirectory(prefix="featcache-benchmark-") as folder:
        options.work = Path(folder)
        options.data = "phantoms"
        if options.source:
            of_table = options.source.suffix == ".csv"
            options.data = (options.source.parent if of_table else options.source).name
        else:
            from featcache.dataset import phantom

            options.source = phantom.write(options.work / "set", options.images)
        count = prepare(options.source, options.images, options.work)
        measured = (together if options.together else by_backbone)(options, count)
        append(Path(__file__), measured, LIBRARIES)


if __name__ == "__main__":
    main()
