"""A run's record: all that run.json says, as types."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar

from featcache.core import checked, records
from featcache.core.records import NULL, OPTIONAL, MaybeNaN
from featcache.core.text import is_file_name
from featcache.dataset.regions import KINDS, MASK, WHOLE, Region

if TYPE_CHECKING:
    from featcache.dataset.manifest import Settings
    from featcache.dataset.splits import Split

Value = TypeVar("Value")

SCHEMA = 1
SEVERAL = "several"  # where the parts of a run differ
OK: Literal["ok"] = "ok"
FAILED: Literal["failed"] = "failed"
Status = Literal["ok", "failed"]
# Heads that learn nothing from features: shown on purpose, as they are.
UNTRAINED = ("majority", "softmax-untrained")
FINETUNED = "finetune"  # name of the head of fine-tuned networks
# What a run has only once it has been trained without a failure.
_RESULTS = (
    "model", "fit_seconds", "fold_seconds", "predict_seconds", "tuning", "calibration",
    "scores",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class FeatureBlock:
    """Columns of a run's features that come from one matrix of one store.

    Attributes:
        backbone: The network's name.
        weights: Their tag.
        input_size: Pixels.
        preprocess: Input scaling; None where the store does not say.
        precision: "float32" or "int8".
        dtype: As stored.
        contract_id: Of the store; None for a network that was fine-tuned.
        store: Its file name; None likewise.
        tap: The inner layer; None for the embedding.
        dim: Number of columns.
        region: What is shown of the images; None for all.
        mask: The manifest's column of the masks, where the region needs them.
        width: Of a ring, as a part of the side.
        resize: How images were brought to that size, as contracts say it.
        canary: Whether a network in a file has proved its preprocessing ("passed") or
            has nothing to prove it by ("absent"); None for others.
        licence: Of the weights, as far as it is stated.
        source: Where they come from, likewise.
    """

    backbone: str
    weights: str
    input_size: int
    preprocess: str | None
    precision: str
    dtype: str
    contract_id: str | None
    store: str | None
    tap: str | None
    dim: int
    region: str | None = None
    mask: str | None = None
    width: str | None = None
    resize: str | None = None
    canary: Literal["passed", "absent"] | None = None
    licence: str = ""
    source: str = ""

    @property
    def image_region(self) -> Region:
        """The region that the network was shown."""
        return Region(self.region or WHOLE, self.mask or MASK)


@dataclass(frozen=True, kw_only=True)
class SplitInfo:
    """The split that a run was evaluated on.

    Attributes:
        name: Its name.
        folds: How many.
        test_size: Share of the groups in the test set.
        seed: By which it was drawn.
        group_by: What its groups are.
        repeat: Which draw of the folds; the first is 0.
        base: Name of the split with repeat 0.
        split_by: The column, "folder" or COLUMN=VALUE by which the source's own test
            set is the test set; None where that was drawn.
        own_val: Fold 0 is the val of the source's own split.

    Raises:
        ValueError: A name that no file can have.
    """

    name: str
    folds: int
    test_size: float
    seed: int
    group_by: str
    repeat: int
    base: str
    split_by: str | None = None
    own_val: bool = False

    @property
    def unit(self) -> str:
        """What its groups are called: "patients" or "groups"."""
        return "patients" if "patient" in self.group_by.lower() else "groups"

    def __post_init__(self) -> None:
        if not all(map(is_file_name, (self.name, self.base))):
            raise ValueError(f"split.name {self.name!r} or its base {self.base!r}")

    @classmethod
    def of(cls, split: "Split", group_by: str) -> Self:
        """What a record says of a split whose groups are these."""
        return cls(
            name=split.name,
            folds=split.folds,
            test_size=split.test_size,
            seed=split.seed,
            group_by=group_by,
            repeat=split.repeat,
            base=split.base or split.name,
            split_by=split.split_by,
            own_val=split.own_val,
        )


@dataclass(frozen=True, kw_only=True)
class EmbeddingInfo:
    """How features are transformed before the head; see ``heads.embedded``."""

    transform: str
    pca: int | str
    revision: int
    blocks: list[int] | None = None
    candidates: list[Any] | None = None


@dataclass(frozen=True, kw_only=True)
class HeadIdentity:
    """What decides a head's numbers: see ``heads.describe``."""

    head: str
    revision: int
    params: dict[str, Any]
    candidates: list[Any] | None = None
    embedding: EmbeddingInfo | None = None

    @classmethod
    def from_json(cls, value: Any) -> Self:
        """Of the dictionary that ``heads.describe`` gives."""
        return records.from_json(cls, records.plain(value), "head_is")

    def to_json(self) -> dict[str, Any]:
        """As run.json and digests have it."""
        return records.to_json(self)


@dataclass(frozen=True, kw_only=True)
class TuningInfo:
    """What a head tried and chose for one fold; see ``heads.tuning.summary``."""

    fold: int
    selected: dict[str, Any]
    log_loss: float | None
    folds: int
    tried: list[dict[str, Any]]
    note: str | None = None
    head: dict[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class CalibrationInfo:
    """How a run's probabilities were calibrated; see `calibration.cross_fit`.

    Attributes:
        method: Of the calibrator: "none", "temperature" or "sigmoid".
        parameters: Of the calibrator.
        folds: The method of each fold.
        kept: Whether the method is any but "none".
        log_loss_before: Out-of-fold, as are the others.
    """

    method: str
    parameters: dict[str, Any]
    folds: list[str]
    kept: bool
    log_loss_before: MaybeNaN
    ece_before: MaybeNaN
    accuracy_before: MaybeNaN
    auc_before: MaybeNaN
    log_loss_after: MaybeNaN
    ece_after: MaybeNaN
    accuracy_after: MaybeNaN
    auc_after: MaybeNaN


@dataclass(frozen=True, kw_only=True)
class TrainingInfo:
    """How the training of a fine-tuned network went.

    Attributes:
        fold: Which it never saw; -1 for the fit on all of train.
        epochs: Trained.
        best_epoch: Whose weights were kept; 0 is the start.
        minutes: Spent.
        stopped: Why it ended.
        start: ``log_loss`` and ``accuracy`` of the validation part before the first
            step; empty without one.
        best_loss: Log-loss of the validation part at the best epoch; None without one.
    """

    fold: int
    epochs: int
    best_epoch: int
    minutes: float
    stopped: str
    start: dict[str, float]
    best_loss: float | None = field(default=None, metadata=NULL)


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """All that is known of a run: the fields of docs/reference/file-format.md.

    ``status`` is None until the run has been trained. A failed run has a ``reason``
    and none of the results from ``model`` on; the fields after ``scores`` are empty
    where the run is no ensemble or no fine-tuned network.
    """

    dataset: str
    backbone: str
    features: list[FeatureBlock]
    taps: list[str]
    views: int
    policy: dict[str, Any] | None
    tta: bool
    classes: list[str]
    exclude: list[str]
    seed: int
    n_images: int
    n_groups: int
    split: SplitInfo
    evaluation_id: str
    head: str
    head_is: HeadIdentity
    recipe_id: str
    created: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    status: Status | None = None
    reason: str | None = None
    model: str | None = field(default=None, metadata=NULL)
    fit_seconds: float = 0.0
    fold_seconds: list[float] = field(default_factory=list)
    predict_seconds: float = 0.0
    tuning: list[TuningInfo] = field(default_factory=list)
    calibration: CalibrationInfo | None = field(default=None, metadata=NULL)
    scores: dict[str, dict[str, MaybeNaN]] = field(default_factory=dict)
    members: list[str] = field(default_factory=list, metadata=OPTIONAL)
    member_weights: dict[str, list[float]] = field(
        default_factory=dict, metadata=OPTIONAL
    )
    member_digests: list[str] = field(default_factory=list, metadata=OPTIONAL)
    parameters: int | None = None
    trainable_parameters: int | None = None
    trainings: list[TrainingInfo] = field(default_factory=list, metadata=OPTIONAL)
    options: list[str] = field(default_factory=list, metadata=OPTIONAL)
    init_head: str | None = None
    max_minutes: float | None = None
    machine: str | None = None
    files: dict[str, str] = field(default_factory=dict, metadata=OPTIONAL)
    preprocess: str | None = None
    weights_digest: str | None = None
    network_file: str | None = None

    @property
    def is_baseline(self) -> bool:
        """Whether it is a baseline or a control, and no result of a network.

        It needs no network, or is shown a region alone, or its head learns nothing.
        """
        shows_nothing = all(b.weights == "none" or b.region for b in self.features)
        return shows_nothing or self.head in UNTRAINED

    @property
    def weights(self) -> str:
        """The weights tag of all features; "several" where they differ."""
        return str(common_value([b.weights for b in self.features]) or SEVERAL)

    @property
    def input_size(self) -> int | None:
        """The input size of all features; None where they differ."""
        return common_value([block.input_size for block in self.features])

    @property
    def store(self) -> str | None:
        """The store of all features; None where they differ, or have none."""
        return common_value([block.store for block in self.features])

    @property
    def contract_id(self) -> str | None:
        """The contract of all features; None where they differ, or have none."""
        return common_value([block.contract_id for block in self.features])

    def split_options(self, settings: "Settings | None") -> list[str]:
        """The words of a command that evaluates on the same images and split.

        Args:
            settings: How the dataset was scanned; None where it is not known.
        """
        split = self.split
        words = [word for text in self.exclude for word in ("--exclude", text)]
        if settings and settings.group_by != split.group_by:
            words += ["--group-by", split.group_by]
        words += ["--folds", str(split.folds)]
        if split.split_by:
            option = "--test-where" if "=" in split.split_by else "--split-by"
            words += [option, split.split_by]
            words += ["--val-part", "fold"] if split.own_val else []
        else:
            words += ["--test-size", f"{split.test_size:g}"]
            words += ["--split-by", "none"] if settings and settings.split_by else []
        return [*words, "--seed", str(self.seed), "--split", split.base]

    def to_json(self) -> dict[str, Any]:
        """The content of run.json."""
        common = ("weights", "input_size", "store", "contract_id")
        values = records.to_json(self)
        if self.status != OK:
            values = {k: v for k, v in values.items() if k not in _RESULTS}
        shared = {key: getattr(self, key) for key in common}
        return checked.with_digest({"schema": SCHEMA, **values, **shared})

    @classmethod
    def from_json(cls, value: Any) -> Self:
        """Reads the content of run.json, as ``json.loads`` gives it.

        Raises:
            ValueError: Names what is missing, of another type, not finite, or does
                not fit the rest; or the record is not the one that was written.
        """
        schema = value.get("schema") if isinstance(value, dict) else None
        if isinstance(value, dict) and schema != SCHEMA:
            raise ValueError(f"schema {schema}, not {SCHEMA}")
        record = records.from_json(cls, value)
        needed = ("reason",) if record.status == FAILED else _RESULTS
        missing = [key for key in ("status", "created", *needed) if key not in value]
        if missing or record.status is None:
            raise ValueError(f"no {missing[0] if missing else 'status'}")
        record._refuse_misfits()
        checked.refuse_changed_record(value)
        return record

    def _refuse_misfits(self) -> None:
        """Raises ValueError for fields that no writer puts side by side."""
        if len(set(self.classes)) < len(self.classes):
            raise ValueError("repeated classes")
        names = [self.model, *self.files, *(block.store for block in self.features)]
        if any(name and PurePath(name).name != name for name in names):
            raise ValueError("a model or store that is not a file name")
        if any(block.region not in (None, *KINDS) for block in self.features):
            raise ValueError("an unknown region")
        if any(len(w) != len(self.members) for w in self.member_weights.values()):
            raise ValueError("member_weights that do not match the members")


def common_value(values: Sequence[Value]) -> Value | None:
    """The one value that all have, or None."""
    return values[0] if values and all(one == values[0] for one in values) else None
