"""Refusal, operating points and training facts, into a bundle and out of it."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from featcache.core import records
from featcache.dataset.perceptual_hashes import BYTES
from featcache.deploy.bundle.open import Bundle
from featcache.deploy.refusal import Refusal
from featcache.deploy.trained import RefusalRule, TrainedModel, TrainingSet
from featcache.errors import FeatcacheError
from featcache.evaluation.operating_points import OperatingPoints
from featcache.evaluation.runs import Predictions

_PREDICTIONS = ("y", "p", "groups")


def parts_of(trained: TrainedModel) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Fields of a bundle's record, and its arrays by the name of the member.

    Groups are numbered, so that no patient's name leaves the house.
    """
    fields: dict[str, Any] = {"counts": dict(trained.training.counts)}
    ids, known = sorted(trained.training.image_ids), trained.training.hashes
    arrays = {"training/ids": np.array(ids, "U64")}
    if trained.training.other_ids is not None:
        arrays["training/others"] = np.array(sorted(trained.training.other_ids), "U64")
    if known:  # zeros where there is none
        none = np.zeros(BYTES, np.uint8)
        arrays["training/hashes"] = np.stack([known.get(one, none) for one in ids])
    if trained.operating_points:
        fields["operating_points"] = trained.operating_points.to_json()
    if trained.rule:
        record, of_refusal = trained.rule.refusal.to_arrays()
        fields["refusal"] = {
            "network": trained.rule.network,
            "output": trained.rule.output,
            "record": records.plain(record),
        }
        arrays |= {f"refusal/{name}": array for name, array in of_refusal.items()}
    if internal := trained.training.internal:
        _, groups = np.unique(internal.groups, return_inverse=True)
        values = (internal.y, internal.p, groups)
        pairs = zip(_PREDICTIONS, values, strict=True)
        arrays |= {f"training/{name}": np.asarray(array) for name, array in pairs}
    return fields, arrays


def of_bundle(bundle: Bundle) -> TrainedModel:
    """The trained model of a bundle.

    Raises:
        BundleError: A part is damaged, or does not fit the model.
    """
    record, model = bundle.record, bundle.model
    try:
        points = record.operating_points
        trained = TrainedModel(
            model,
            OperatingPoints.from_json(points) if points else None,
            _rule(bundle, record.refusal) if record.refusal else None,
            _training(bundle),
            record.dataset,
        )
        for point in trained.points:
            if not 0 <= point.column < len(model.classes):
                raise ValueError(f"an operating point of class {point.column}")
    except (ValueError, KeyError, TypeError) as error:
        raise bundle.archive.unusable(str(error)) from error
    except FeatcacheError as error:
        raise bundle.archive.unusable(error.problem) from error
    return trained


def _rule(bundle: Bundle, record: Mapping[str, Any]) -> RefusalRule:
    number, output = record["network"], record["output"]
    if type(number) is not int or not 0 <= number < len(bundle.model.networks):
        raise ValueError(f"refusal by network {number!r}")
    network = bundle.model.networks[number]
    if output not in network.outputs:
        raise ValueError(f"refusal by the output {output!r}")
    names = [n for n in bundle.record.files if n.startswith("refusal/")]
    arrays = {
        name.removeprefix("refusal/").removesuffix(".npy"): bundle.array(name)
        for name in names
    }
    refusal = Refusal.from_arrays(record["record"], arrays)
    width = network.widths[network.outputs.index(output)]
    if refusal.model.mahalanobis.mean.size != width:
        raise ValueError("refusal by embeddings of another width")
    return RefusalRule(refusal, number, output)


def _training(bundle: Bundle) -> TrainingSet:
    ids = bundle.array("training/ids.npy")
    internal = None
    if "training/y.npy" in bundle.record.files:
        y, p, groups = (bundle.array(f"training/{n}.npy") for n in _PREDICTIONS)
        classes = len(bundle.record.classes)
        fits = p.shape == (len(y), classes) and len(groups) == len(y)
        if not fits or y.dtype.kind not in "iu" or y.min() < 0 or y.max() >= classes:
            raise ValueError("internal predictions that do not fit together")
        internal = Predictions(y, p, groups)
    hashes: dict[str, np.ndarray] = {}
    if "training/hashes.npy" in bundle.record.files:
        values = bundle.array("training/hashes.npy")
        if values.shape != (len(ids), BYTES) or values.dtype != np.uint8:
            raise ValueError("perceptual hashes that are not those of its images")
        hashes = dict(zip(ids.tolist(), values, strict=True))
    others = None
    if "training/others.npy" in bundle.record.files:
        others = frozenset(bundle.array("training/others.npy").tolist())
    return TrainingSet(
        frozenset(ids.tolist()), bundle.record.counts, internal, hashes, others
    )
