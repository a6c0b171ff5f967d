"""What manifest.json of a bundle says, as types."""

from dataclasses import dataclass, field
from typing import Any, Self

from featcache.core import records
from featcache.core.records import NULL

FORMAT = 1  # raised with any change that an older reader would misunderstand
# Whose versions a bundle names, and a proof depends on.
LIBRARIES = (
    *("featcache", "numpy", "openvino", "pillow", "pydicom", "scikit-learn", "scipy"),
    *("tensorflow", "keras", "xgboost"),
)
# How far results may be from those of the machine where a bundle was made.
TOLERANCES = {"features": 1e-3, "features_int8": 5e-2, "head": 1e-4, "answer": 5e-3}


@dataclass(frozen=True, kw_only=True)
class NetworkRecord:
    """A network.

    Attributes:
        name: Of the backbone.
        size: Side of its input in pixels.
        resize: How images are brought to it, as contracts say it.
        outputs: Names of the outputs that are used.
        widths: Columns of each.
        dtype: In which features are rounded.
        weights: Tag of its weights; "none" for a baseline.
        file: Name of its own file, or of its weights, where that is no member.
        is_member: Whether the bundle carries it, in OpenVINO's format.
        contract: Of its features; None for a network that was fine-tuned.
        weights_key: Names its weights.
        licence: Of the weights, as far as it is stated.
        source: Where they come from, likewise.
        canary: "passed" or "absent" for a network in a file; None for others.
    """

    name: str
    size: int
    outputs: list[str]
    widths: list[int]
    dtype: str
    weights: str
    is_member: bool
    file: str | None = field(default=None, metadata=NULL)
    contract: dict[str, Any] | None = field(default=None, metadata=NULL)
    weights_key: str = ""
    resize: str | None = None
    licence: str = ""
    source: str = ""
    canary: str | None = None


@dataclass(frozen=True, kw_only=True)
class ColumnRecord:
    """A block of a head's features.

    Attributes:
        network: Number of the network.
        output: Name of its output.
    """

    network: int
    output: str


@dataclass(frozen=True, kw_only=True)
class CalibrationRecord:
    """A calibrator; see ``evaluation.calibration.Calibrator``."""

    method: str
    parameters: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class MemberRecord:
    """A trained head, or fine-tuned network.

    Attributes:
        name: Id of the run.
        columns: What its features are.
        has_head: Whether there is a head; a fine-tuned network has none.
        views: Augmented views over which it averages, beside the plain one.
        policy: Their recipe.
        calibration: Of the mean.
    """

    name: str
    columns: list[ColumnRecord]
    has_head: bool
    views: int
    policy: dict[str, Any] | None = field(default=None, metadata=NULL)
    calibration: CalibrationRecord


@dataclass(frozen=True, kw_only=True)
class BundleRecord:
    """The content of manifest.json.

    Attributes:
        format: `FORMAT`.
        run: Id of the run.
        dataset: On which it was trained.
        created: When the run was trained.
        versions: Of the libraries that made the bundle.
        classes: Labels, in the order of the probabilities.
        networks: Each once.
        members: One, or those of an ensemble.
        weights: Of the members.
        calibration: Of an ensemble's mean.
        golden: Name of each golden case's file, and the SHA-256 of its pixels.
        tolerances: How far results may differ, see ``TOLERANCES``.
        training: Facts about the training data and the evaluation.
        counts: Training images of each class.
        operating_points: Thresholds and what they cost, as `OperatingPoints` are in
            records; None without out-of-fold predictions.
        refusal: What decides whether an image is answered for; None: nothing does.
        intended_use: In the words of whoever made it.
        files: SHA-256 of each member.
    """

    format: int
    run: str
    dataset: str
    created: str
    versions: dict[str, str]
    classes: list[str]
    networks: list[NetworkRecord]
    members: list[MemberRecord]
    weights: list[float]
    calibration: CalibrationRecord
    golden: dict[str, str]
    tolerances: dict[str, float]
    training: dict[str, Any]
    counts: dict[str, int]
    operating_points: dict[str, Any] | None = field(default=None, metadata=NULL)
    refusal: dict[str, Any] | None = field(default=None, metadata=NULL)
    intended_use: str
    files: dict[str, str] = field(default_factory=dict)

    @classmethod
    def from_json(cls, value: Any) -> Self:
        """Reads what `records.to_json` gives.

        Raises:
            ValueError: Names what is missing, of another type, or does not fit.
        """
        if isinstance(value, dict) and value.get("format") != FORMAT:
            raise ValueError(
                f"format {value.get('format')!r}; this featcache reads {FORMAT}"
            )
        record = records.from_json(cls, value)
        record._refuse_misfits()
        return record

    def _refuse_misfits(self) -> None:
        if not self.members or len(self.weights) != len(self.members):
            raise ValueError("weights that do not match the members")
        if len(set(self.classes)) != len(self.classes) or len(self.classes) < 2:
            raise ValueError("classes that are not distinct")
        for network in self.networks:
            if len(network.widths) != len(network.outputs):
                raise ValueError(f"widths that do not match the outputs {network.name}")
        for member in self.members:
            for column in member.columns:
                known = 0 <= column.network < len(self.networks)
                if (
                    not known
                    or column.output not in self.networks[column.network].outputs
                ):
                    raise ValueError(f"columns of {member.name} that no network gives")
            if member.views < 0 or (member.views and member.policy is None):
                raise ValueError(f"views of {member.name} without a policy")
