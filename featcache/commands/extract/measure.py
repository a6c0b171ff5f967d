"""What a new store's contract holds that has to be measured first."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from featcache import backbones
from featcache.backbones import FEATUREWISE, Network
from featcache.backbones.engines import convert, int8, openvino
from featcache.backbones.engines.convert import PreparedNetwork
from featcache.backbones.graphs import reading
from featcache.commands.extract.pipeline import renderer
from featcache.commands.extract.plan import ExtractRequest, Job
from featcache.commands.extract.proof import prove
from featcache.core import checked, memo
from featcache.dataset import rendering
from featcache.errors import UnreadableImageError, WeightsError
from featcache.features.contract import Statistics
from featcache.features.store import FEATURES

CALIBRATION_IMAGES = 300
_DRIFT_IMAGES = 64


def fill_measured_fields(request: ExtractRequest, job: Job) -> None:
    """Measures the fields of a new store's contract that follow from the data."""
    if job.network.is_baseline:
        return
    _fill(job, weights_digest=weights_digest(request, job))
    prove(request, job)
    if job.network.preprocess == FEATUREWISE:
        _fill(job, statistics=statistics(request, job.network))
    if request.precision == "int8":
        job.header.notes["calibration"] = calibration_ids(request)
        path = convert.to_int8(prepared(request, job))
        job.header.notes["drift"] = int8_drift(request, job)
        _fill(job, quantised=openvino.digest(path))


def _fill(job: Job, **fields: Any) -> None:
    """Puts measured fields into the contract of a job's store."""
    contract = replace(job.header.contract, **fields)
    job.header = replace(job.header, contract=contract)


def prepared(request: ExtractRequest, job: Job) -> PreparedNetwork:
    """What the job's engine is made from."""
    return PreparedNetwork(
        network=job.network,
        contract=job.header.contract,
        taps=job.taps,
        folder=request.cache / "openvino",
        model=job.model,
        calibration_ids=job.header.notes.get("calibration", []),
        pixels=partial(plain_views, request, job.network),
    )


def weights_digest(request: ExtractRequest, job: Job) -> str:
    """The digest of the weights' values; the network is built for it only once."""
    network = job.network
    identity = {
        "architecture": network.architecture,
        "weights": backbones.weights_key(network),
    }
    folder = request.cache / "openvino"
    path = memo.path_of(folder, "weights-", identity)
    known = memo.remembered(path, identity) if identity["weights"] else None
    if known and isinstance(known.get("weights_digest"), str):
        refuse_other_weights(network, known["weights_digest"])
        return str(known["weights_digest"])
    if network.is_graph:
        sha256 = reading.weights_digest(network)
    else:
        job.model = backbones.build(network)
        identity["weights"] = backbones.weights_key(network)  # downloaded by now
        sha256 = backbones.weights_digest(job.model)
    refuse_other_weights(network, sha256)
    path = memo.path_of(folder, "weights-", identity)
    checked.write_record(path, identity | {"weights_digest": sha256})
    return sha256


def refuse_other_weights(network: Network, sha256: str | None) -> None:
    """Refuses weights that the descriptor of a network is not of.

    Raises:
        WeightsError: They are others.
    """
    expected = network.descriptor.weights_digest if network.descriptor else None
    if expected and sha256 and expected != sha256:
        assert network.file is not None
        beside = network.file.with_suffix(".json").name
        raise WeightsError(
            f"the weights {expected[:8]} that {beside} describes",
            f"{sha256[:8]} in {network.file.name}",
            "Put the descriptor beside it that was made with it.",
        )


def statistics(request: ExtractRequest, network: Network) -> Statistics:
    """Mean and standard deviation a channel over the training images' pixels."""
    split, ids = request.training_images
    total, squares, count = np.zeros(3), np.zeros(3), 0
    for pixels in plain_views(request, network, ids):
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


def calibration_ids(request: ExtractRequest) -> list[str]:
    """The training images that int8 is calibrated on: those of the lowest ids."""
    return sorted(request.training_images[1])[:CALIBRATION_IMAGES]


def int8_drift(request: ExtractRequest, job: Job) -> dict[str, float]:
    """How far int8 is from float32 on images it was, mostly, not calibrated on."""
    network = prepared(request, job)
    paths = convert.to_float32(network), convert.to_int8(network)
    record = openvino.read_record(paths[1])
    if stored := record.get("drift"):
        return dict(stored)
    ids = sorted(request.manifest.ok["image_id"], reverse=True)[:_DRIFT_IMAGES]
    batches = list(plain_views(request, job.network, ids))
    embeddings = []
    for path in paths:
        engine = openvino.OpenVINOEngine(path, batch_size=request.batch_size)
        embeddings.append(
            np.concatenate([outputs[FEATURES] for outputs in engine.run(batches)])
        )
    mean, smallest = int8.drift(*embeddings)
    drift = {"images": len(batches), "mean_cosine": mean, "smallest_cosine": smallest}
    checked.write_record(paths[1].with_suffix(".json"), record | {"drift": drift})
    return drift


def plain_views(
    request: ExtractRequest, network: Network, ids: Sequence[str]
) -> Iterator[np.ndarray]:
    """Yields what an engine takes of each image's plain view, in order.

    Images that cannot be read are skipped: the run itself reports them.
    """
    paths = request.manifest.ok.set_index("image_id")["path"]

    def plain_view(image_id: str) -> np.ndarray | None:
        try:
            picture = rendering.read(
                request.manifest.root, str(paths[image_id]), image_id
            )
        except UnreadableImageError:
            return None
        return renderer(request, picture, image_id)(network, 0)[None]

    with ThreadPoolExecutor() as pool:
        for start in range(0, len(ids), 64):
            batches = pool.map(plain_view, ids[start : start + 64])
            yield from (pixels for pixels in batches if pixels is not None)
