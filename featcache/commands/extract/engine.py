"""From a network to an engine: which one, converted once, quantised once."""

import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from featcache import backbones, features
from featcache.backbones import Network, Preprocess
from featcache.backbones.engines.base import Engine, network_name
from featcache.backbones.engines.choose import preferred
from featcache.backbones.engines.numpy import NumpyEngine
from featcache.commands.extract.pipeline import read, taker
from featcache.commands.extract.plan import Job, Plan, versions
from featcache.core.io import digest, lock, write_json
from featcache.dataset import splits
from featcache.dataset.splits import SplitOptions
from featcache.errors import ConversionError, StoreError, UnreadableImageError
from featcache.features.contract import FLOAT32, Statistics
from featcache.features.store import FEATURES, Header

if TYPE_CHECKING:
    import keras

CALIBRATION_IMAGES = 300
CANARY_ROWS = 8
_converting = threading.Lock()  # Keras builds one network at a time
AGREEMENT = 1e-4  # of the engines, relative to the largest number
# Another release may round differently; a real change is far larger than this.
TOLERANCE = {"float32": 1e-3, "int8": 5e-2}


def make(plan: Plan, jobs: list[Job]) -> list[Engine]:
    """Builds the jobs' engines; says so where OpenVINO cannot take a network.

    Networks are converted one after another, but OpenVINO compiles them side by side.
    """
    makers = [_maker(plan, job) for job in jobs]
    with ThreadPoolExecutor(max(len(makers), 1)) as pool:
        return list(pool.map(lambda maker: maker(), makers))


def _maker(plan: Plan, job: Job) -> Callable[[], Engine]:
    if job.network.is_baseline:
        return partial(NumpyEngine, batch_size=plan.batch_size)
    if preferred(plan.engine) == "openvino" or plan.precision == "int8":
        try:
            convert = _quantised if plan.precision == "int8" else _ir
            return partial(_openvino, plan, job, convert, convert(plan, job))
        except ConversionError as error:
            if plan.precision == "int8":
                raise
            plan.reporter.message(f"{job.network.name}: {error}")
    from featcache.backbones.engines.tensorflow import TensorFlowEngine

    built = TensorFlowEngine(_graph(job), batch_size=plan.batch_size)
    return lambda: built


def _openvino(
    plan: Plan, job: Job, convert: Callable[[Plan, Job], Path], path: Path
) -> Engine:
    from featcache.backbones.engines.openvino import OpenVINOEngine

    try:
        return OpenVINOEngine(path, batch_size=plan.batch_size)
    except ConversionError as error:
        with _converting:
            plan.reporter.message(f"converted anew: {error.got} in {path}")
            path.unlink(missing_ok=True)
            convert(plan, job)
        return OpenVINOEngine(path, batch_size=plan.batch_size)


def _graph(job: Job) -> "keras.Model":
    core = job.model or backbones.build(job.network)
    given = job.header.contract.statistics
    statistics = standardising(given.mean, given.std) if given else None
    return backbones.with_pixels(
        core, job.network, taps=job.taps, statistics=statistics
    )


def standardising(mean: list[float], std: list[float]) -> Preprocess:
    """Feature-wise zero mean and unit variance a channel."""
    scale = tuple(1 / s for s in std)
    offset = tuple(-m / s for m, s in zip(mean, std, strict=True))
    return Preprocess(scale, offset)  # type: ignore[arg-type]


def _home(plan: Plan, job: Job, **more: Any) -> Path:
    """Where the converted network lies: a name made of all that it depends on."""
    libraries = {k: versions().get(k) for k in ("keras", "openvino")}
    identity = {"taps": job.taps, "libraries": libraries, **more}
    name = f"{network_name(job.header.contract)}-{digest(identity)[:16]}.xml"
    return plan.cache / "openvino" / name


def _ir(plan: Plan, job: Job) -> Path:
    """Converts a network once and keeps it."""
    from featcache.backbones.engines.openvino import convert

    path = _home(plan, job, precision="float32")
    with lock(path.with_suffix(".lock"), path.name, timeout=600):
        if not path.exists():
            graph = _graph(job)
            convert(graph, path)
            _compare(graph, path)
    return path


def _compare(graph: "keras.Model", path: Path) -> None:
    """Runs a freshly converted network beside TensorFlow on two pictures of noise.

    Raises:
        ConversionError: Their numbers differ; the converted network is removed.
    """
    from featcache.backbones.engines.openvino import OpenVINOEngine
    from featcache.backbones.engines.tensorflow import TensorFlowEngine

    shape = (2, *graph.input_shape[1:])
    noise = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    (want,) = TensorFlowEngine(graph, batch_size=2).run([noise])
    (got,) = OpenVINOEngine(path, batch_size=2).run([noise])
    for name, wanted in want.items():
        apart = float(np.abs(got[name] - wanted).max() / np.abs(wanted).max())
        if not apart < AGREEMENT:
            path.unlink()
            raise ConversionError(
                f"OpenVINO to give TensorFlow's {name} to {AGREEMENT:g}",
                f"a relative difference of {apart:.2g}",
                "TensorFlow runs this network instead.",
            )


def weights_digest(plan: Plan, job: Job) -> str:
    """The digest of the weights' values; the network is built for it only once."""
    network = job.network
    identity = {
        "architecture": network.architecture,
        "weights": backbones.weights_key(network),
    }
    memo = plan.cache / "openvino" / f"weights-{digest(identity)[:16]}.json"
    if identity["weights"] and memo.exists():
        return str(json.loads(memo.read_text())["weights_digest"])
    job.model = backbones.build(network)
    identity["weights"] = backbones.weights_key(network)  # downloaded by now
    found = backbones.weights_digest(job.model)
    memo = memo.with_name(f"weights-{digest(identity)[:16]}.json")
    write_json(memo, identity | {"weights_digest": found})
    return found


def _quantised(plan: Plan, job: Job) -> Path:
    """Quantises a network once and keeps it; the contract holds its digest."""
    from featcache.backbones.engines import int8, openvino

    chosen = job.header.notes["calibration"]
    path = _home(plan, job, calibration=digest(chosen))
    source = _ir(plan, job)
    with lock(path.with_suffix(".lock"), path.name, timeout=3600):
        if not path.exists():
            int8.quantise(source, path, _pictures(plan, job.network, chosen))
    wanted, got = job.header.contract.quantised, openvino.digest(path)
    if wanted not in (None, got):
        raise StoreError(
            f"the quantised network {wanted[:8]} of {job.path.name}",
            f"{got[:8]}, for the converted network was lost and came out different",
            "Move the store away and extract all of it again.",
        )
    return path


def statistics(plan: Plan, network: Network) -> Statistics:
    """Mean and standard deviation a channel over the training images' pixels."""
    split, ids = training_part(plan)
    total, squares, count = np.zeros(3), np.zeros(3), 0
    for pixels in _pictures(plan, network, ids):
        values = pixels.reshape(-1, 3).astype(np.float64)
        total += values.sum(axis=0)
        squares += np.square(values).sum(axis=0)
        count += len(values)
    mean = total / count
    std = np.sqrt(squares / count - mean**2)
    return Statistics(
        split=split,
        mean=[round(float(m), 6) for m in mean],
        std=[round(float(max(s, 1e-6)), 6) for s in std],
    )


def calibration_ids(plan: Plan) -> list[str]:
    """The training images that int8 is calibrated on: those of the lowest ids."""
    return sorted(training_part(plan)[1])[:CALIBRATION_IMAGES]


def training_part(plan: Plan) -> tuple[str, list[str]]:
    """The default split's name, and the ids of its images outside the test part."""
    split = features.draw_split(plan.manifest, SplitOptions(seed=plan.policy.seed))
    ids = plan.manifest.ok["image_id"].tolist()
    return split.name, [i for i in ids if split.places[i] != splits.TEST]


def _pictures(plan: Plan, network: Network, ids: list[str]) -> Iterator[np.ndarray]:
    """Yields what an engine takes of each image's plain view, in order."""
    paths = plan.manifest.ok.set_index("image_id")["path"]

    def one(image_id: str) -> np.ndarray | None:
        try:
            picture = read(plan.manifest.root, str(paths[image_id]), image_id)
        except UnreadableImageError:
            return None  # the run itself tells the reason
        return taker(plan, picture, image_id)(network, 0)[None]

    with ThreadPoolExecutor() as pool:
        for start in range(0, len(ids), 64):
            found = pool.map(one, ids[start : start + 64])
            yield from (pixels for pixels in found if pixels is not None)


def canary(plan: Plan, job: Job, engine: Engine) -> None:
    """Recomputes a few stored rows when libraries have changed since.

    Raises:
        StoreError: They drift beyond the tolerance; names both numbers.
    """
    if job.found is None or _made_by(job.found.header) == _made_by(job.header):
        return
    plain = job.found.keys[job.found.keys["view"] == 0]
    known = plain[plain["image_id"].isin(plan.manifest.ok["image_id"])]
    rows = known.head(CANARY_ROWS).index.to_numpy()
    ids = known.head(CANARY_ROWS)["image_id"].tolist()
    pictures = list(_pictures(plan, job.network, ids))
    if not rows.size or len(pictures) < len(rows):
        return
    (outputs,) = engine.run([np.concatenate(pictures)[: plan.batch_size]])
    now = outputs[FEATURES]
    stored = job.found.read(FEATURES)[rows[: len(now)]]
    drift = float(np.abs(now - stored).max() / max(np.abs(stored).max(), 1e-12))
    precision = job.header.contract.precision or FLOAT32
    limit = TOLERANCE[precision] + (1e-3 if plan.dtype == "float16" else 0)
    if drift > limit:
        raise StoreError(
            f"stored rows of {job.path.name} to come out again within {limit:g}",
            f"a relative difference of {drift:.2g} ({_changed(job)})",
            "Install the versions of then, or move the store away and extract all of "
            "it again.",
        )


def _made_by(header: Header) -> dict[str, str]:
    return header.versions | {"engine": header.engine}


def _changed(job: Job) -> str:
    assert job.found is not None
    before, now = _made_by(job.found.header), _made_by(job.header)
    return ", ".join(
        f"{name} {before.get(name, 'none')} then, {now.get(name, 'none')} now"
        for name in sorted({*before, *now})
        if before.get(name) != now.get(name)
    )


def drift(plan: Plan, job: Job) -> dict[str, float]:
    """How far int8 is from float32 on images it was, mostly, not calibrated on."""
    from featcache.backbones.engines import int8
    from featcache.backbones.engines.openvino import OpenVINOEngine

    memo = _quantised(plan, job).with_suffix(".json")
    if memo.exists():
        kept: dict[str, float] = json.loads(memo.read_text())
        return kept
    ids = sorted(plan.manifest.ok["image_id"], reverse=True)[:64]
    pictures = list(_pictures(plan, job.network, ids))
    both = []
    for ir in (_ir(plan, job), _quantised(plan, job)):
        engine = OpenVINOEngine(ir, batch_size=plan.batch_size)
        both.append(np.concatenate([out[FEATURES] for out in engine.run(pictures)]))
    mean, smallest = int8.drift(*both)
    found = {"images": len(pictures), "mean_cosine": mean, "smallest_cosine": smallest}
    write_json(memo, found)
    return found


def measured(plan: Plan, job: Job) -> None:
    """Fills in the contract's fields that have to be measured on a new store."""
    if job.network.is_baseline:
        return
    _measure(job, weights_digest=weights_digest(plan, job))
    if job.network.preprocess == "featurewise":
        _measure(job, statistics=statistics(plan, job.network))
    if plan.precision == "int8":
        from featcache.backbones.engines import openvino

        job.header.notes["calibration"] = calibration_ids(plan)
        path = _quantised(plan, job)
        job.header.notes["drift"] = drift(plan, job)
        _measure(job, quantised=openvino.digest(path))


def _measure(job: Job, **fields: Any) -> None:
    """Puts measured fields into the contract of a job's store."""
    contract = replace(job.header.contract, **fields)
    job.header = replace(job.header, contract=contract)
