"""Proving a bundle: its golden cases, through every stage, here and now."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import compress

import numpy as np

from featcache.core.versions import installed_versions
from featcache.deploy.bundle import golden
from featcache.deploy.bundle.open import Bundle
from featcache.deploy.model import Candidate
from featcache.errors import FeatcacheError


@dataclass(frozen=True)
class Stage:
    """One stage of the proof.

    Attributes:
        name: One of ``STAGES``.
        difference: Largest difference to the machine where the bundle was made:
            relative for features, absolute for probabilities; the number of files for
            digests and decoding.
        tolerance: What is allowed.
        problem: What is wrong; empty where nothing is.
        note: What could not be checked on this machine; else empty.
    """

    name: str
    difference: float
    tolerance: float
    problem: str = ""
    note: str = ""

    @property
    def passed(self) -> bool:
        """Whether the stage gives what it gave where the bundle was made."""
        return not self.problem and self.difference <= self.tolerance

    @property
    def failure(self) -> str:
        """Why it does not pass, in words."""
        return self.problem or (
            f"a difference of {self.difference:.2g}, above {self.tolerance:g}"
        )


def verify(bundle: Bundle) -> list[Stage]:
    """Runs the golden cases through a bundle.

    Each stage gets what the stage before gave where the bundle was made, so that the
    first that differs is the one to blame; the last goes from files to answers.

    Returns:
        The stages, as far as they can be run: one with an error is the last.
    """
    stages: list[Stage] = []
    for name, run in _STAGES.items():
        try:
            stages.append(run(bundle))
        except FeatcacheError as error:
            stages.append(Stage(name, np.inf, 0, error.problem))
        if stages[-1].problem:
            break
    return stages


def first_failed(stages: Iterable[Stage]) -> Stage | None:
    """The stage to blame; None where all pass."""
    return next((stage for stage in stages if not stage.passed), None)


def _digests(bundle: Bundle) -> Stage:
    bundle.archive.verify()
    return Stage("digests", 0, 0)


def _decoding(bundle: Bundle) -> Stage:
    wrong, cases = [], bundle.record.golden
    names = _names(bundle)
    for name in names:
        data = bundle.archive.read(f"golden/{name}")
        if golden.pixels_digest(golden.candidate(data)) != cases[name]:
            wrong.append(name)
    # A JPEG may be decoded differently by another libjpeg: its features tell.
    lossless = [name for name in wrong if not name.endswith(".jpg")]
    problem = f"other pixels of {', '.join(lossless)}" if lossless else ""
    left = [name for name in cases if name not in names]
    note = f"without {', '.join(left)}, which needs pydicom" if left else ""
    return Stage("decoding", len(wrong), len(wrong) - len(lossless), problem, note)


def _features(bundle: Bundle) -> Stage:
    model = bundle.model
    cases = _candidates(bundle)
    worst, tolerance = 0.0, bundle.record.tolerances["features"]
    for number, (network, record) in enumerate(
        zip(model.networks, bundle.record.networks, strict=True)
    ):
        is_int8 = (record.contract or {}).get("precision") == "int8"
        limit = bundle.record.tolerances["features_int8" if is_int8 else "features"]
        outputs = model.embed_network(number, cases)
        for column, name in enumerate(network.outputs):
            expected = _of_cases(bundle, f"features-{number}-{column}")
            got = outputs[name]
            if got.shape != expected.shape:
                problem = f"{name} of {network.name} has the shape {got.shape}"
                return Stage("features", np.inf, limit, problem)
            scale = max(float(np.abs(expected).max()), 1e-12)
            difference = float(np.abs(got - expected).max()) / scale
            if difference / limit > worst / tolerance:
                worst, tolerance = difference, limit
    return Stage("features", worst, tolerance)


def _head(bundle: Bundle) -> Stage:
    model = bundle.model
    names = [
        f"features-{number}-{column}"
        for number, network in enumerate(model.networks)
        for column in range(len(network.outputs))
    ]
    arrays = {name: bundle.array(f"golden/{name}.npy") for name in names}
    got = model.probabilities(golden.restored(model, arrays)).raw
    return _compared(bundle, "head", got, bundle.array("golden/raw.npy"))


def _calibration(bundle: Bundle) -> Stage:
    got = bundle.model.calibrated(bundle.array("golden/raw.npy"))
    return _compared(bundle, "calibration", got, bundle.array("golden/answer.npy"))


def _answer(bundle: Bundle) -> Stage:
    got = bundle.model.predict_proba(_candidates(bundle))
    return _compared(bundle, "answer", got, _of_cases(bundle, "answer"))


def _compared(
    bundle: Bundle, stage: str, got: np.ndarray, expected: np.ndarray
) -> Stage:
    limit = bundle.record.tolerances["answer" if stage == "answer" else "head"]
    if got.shape != expected.shape:
        return Stage(stage, np.inf, limit, f"the shape {got.shape}")
    return Stage(stage, float(np.abs(got - expected).max()), limit)


def _can_be_read(bundle: Bundle) -> np.ndarray:
    """Which golden cases: DICOM files where pydicom is, (N,) bool."""
    is_here = bool(installed_versions(["pydicom"]))
    return np.array([is_here or name[-4:] != ".dcm" for name in bundle.record.golden])


def _names(bundle: Bundle) -> list[str]:
    return list(compress(bundle.record.golden, _can_be_read(bundle)))


def _of_cases(bundle: Bundle, name: str) -> np.ndarray:
    """What the cases that can be read gave where the bundle was made."""
    array, kept = bundle.array(f"golden/{name}.npy"), _can_be_read(bundle)
    return array[kept] if array.shape[:1] == kept.shape else array


def _candidates(bundle: Bundle) -> list[Candidate]:
    read = bundle.archive.read
    return [golden.candidate(read(f"golden/{name}")) for name in _names(bundle)]


_STAGES = {
    "digests": _digests,
    "decoding": _decoding,
    "features": _features,
    "head": _head,
    "calibration": _calibration,
    "answer": _answer,
}
STAGES = tuple(_STAGES)
