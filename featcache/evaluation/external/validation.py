"""What an external validation says, and the record of it that is kept."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from featcache.core import checked, records
from featcache.core.records import OPTIONAL
from featcache.core.text import counted, file_part
from featcache.core.times import instant
from featcache.evaluation.external.base import Scores
from featcache.evaluation.external.subgroups import Subgroups
from featcache.evaluation.figures import Figure
from featcache.evaluation.identity import short_id

FOLDER = "validations"  # in ``reports/<dataset>``
SCHEMA = 1
_INTERNAL = "this validation is internal, and says nothing about other places"


@dataclass(frozen=True)
class OverlapImage:
    """An image that was left out, as it or its group was in training.

    Attributes:
        image_id: Of the image.
        path: Its path.
        how: "identical", "near-duplicate", or "group" for one whose group has
            another such image.
        training_id: The training image; empty for "group".
        bits: In how many of 576 bits the perceptual hashes of the two differ; None but
            for "near-duplicate".
    """

    image_id: str
    path: str
    how: str
    training_id: str = ""
    bits: int | None = None


@dataclass(frozen=True, kw_only=True)
class Overlap:
    """The images that were left out.

    Attributes:
        n: How many.
        identical: Of these, the same bytes as a training image.
        near_duplicates: Probably the same picture as one, by their perceptual hashes.
        same_group: In the group of such an image.
        near_duplicates_checked: Whether the hashes of the training images were at hand
            to look for near-duplicates; identical images are always looked for.
        images: One row each.
    """

    n: int
    identical: int
    near_duplicates: int
    same_group: int
    near_duplicates_checked: bool
    images: list[OverlapImage] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class OwnImages:
    """Images that were scored and are not from elsewhere.

    Attributes:
        identical: Of the dataset that the model is from, and not in training: its test
            set, or images that were left out.
        same_group: Others in the groups of these.
    """

    identical: int
    same_group: int

    @property
    def n(self) -> int:
        """How many they are."""
        return self.identical + self.same_group


@dataclass(frozen=True, kw_only=True)
class PrevalenceCorrected:
    """The scores after correction for another prevalence; no label is used for it.

    Attributes:
        training: Share of each class in training.
        estimated: Its share in the external set, as estimated by EM.
        converged: Whether EM came to rest.
        scores: Of the corrected probabilities.
    """

    training: dict[str, float]
    estimated: dict[str, Figure]
    converged: bool
    scores: Scores


@dataclass(frozen=True, kw_only=True)
class Recalibrated:
    """The scores after recalibration on the other folds of the external set.

    Attributes:
        scores: Of the recalibrated probabilities; None where it is not applicable.
        method: The kind that was chosen over all folds: "none", "temperature" or
            "sigmoid"; None likewise.
        folds: Of groups.
        reason: Why it is not applicable.
    """

    scores: Scores | None
    method: str | None
    folds: int
    reason: str | None = None


@dataclass(frozen=True, kw_only=True)
class Validation:
    """A frozen model on a dataset that it never saw.

    Attributes:
        dataset: Name of the external dataset.
        group_by: What its groups are.
        classes: Of the model.
        mapping: The external labels that are not named as the model's classes are.
        n: Images that were scored, without overlap.
        n_groups: Their groups.
        images_sha256: Digest of their sorted image_ids.
        unreadable: Images that the model could not read.
        excluded_overlap: Images that were in training.
        own: Images that were scored and are of the model's own dataset; None where
            that is not known, as the bundle does not list them.
        as_found: Scores of the probabilities as they are.
        prevalence_corrected: After correction for another prevalence.
        recalibrated: After recalibration inside the external set.
        difference: External, as found, minus internal: out-of-fold on images of the
            classes that both have. Empty where there are no internal predictions.
        subgroups: By column.
        refused_share: Share of images that the model would refuse; they count in all
            other figures.
        without_refused: Scores, as found, without these; None where none is refused,
            or all are.
    """

    dataset: str
    group_by: str
    classes: list[str]
    mapping: dict[str, str]
    n: int
    n_groups: int
    images_sha256: str
    unreadable: int
    excluded_overlap: Overlap
    as_found: Scores
    prevalence_corrected: PrevalenceCorrected
    recalibrated: Recalibrated
    difference: dict[str, Figure]
    subgroups: list[Subgroups] = field(default_factory=list)
    refused_share: Figure
    without_refused: Scores | None = field(default=None, metadata=OPTIONAL)
    own: OwnImages | None = field(default=None, metadata=OPTIONAL)

    @property
    def is_external(self) -> bool:
        """Whether most images are from elsewhere, as far as that is known."""
        if self.own is None:
            return self.excluded_overlap.n <= self.n
        return 2 * self.own.n <= self.n

    @property
    def own_in_words(self) -> str:
        """How many images are not from elsewhere, and what follows; empty if none."""
        if self.own is None:
            text = "It is not known whether images are of the model's own test set"
            if not self.is_external:
                text += (
                    ", and more images were in training than are scored, so that most "
                    f"are probably of the same dataset: {_INTERNAL}"
                )
            return f"{text}."
        if not self.own.n:
            return ""
        text = (
            f"{self.own.n} of the {counted(self.n, 'image')} "
            f"{'is' if self.own.n == 1 else 'are'} of the model's own dataset "
            "(its test set, images left out, or others of their groups)"
        )
        return f"{text}{'.' if self.is_external else f': {_INTERNAL}.'}"

    def to_json(self) -> dict[str, Any]:
        """As the command prints it."""
        return records.to_json(self)


@dataclass(frozen=True, kw_only=True)
class ValidationRecord:
    """A validation as it is kept.

    Attributes:
        schema: `SCHEMA`.
        created: When it was made.
        run_id: The run that was validated.
        bundle_sha256: Of the bundle that it was validated as; None for the run itself.
        result: What came out.
    """

    schema: int
    created: str
    run_id: str
    bundle_sha256: str | None = None
    result: Validation

    @property
    def title(self) -> str:
        """The run and the external dataset, for a message."""
        return f"{self.run_id} on {self.result.dataset}"


def record_path(reports: Path, external: str, run_id: str) -> Path:
    """Where the validation of a run on an external dataset is kept.

    Args:
        reports: ``reports/<dataset>`` of the run.
        external: Name of the external dataset.
        run_id: The run, whether or not its folder is there.
    """
    short = file_part(short_id(reports / "runs" / run_id), 60)
    return reports / FOLDER / f"{external}-{short}.json"


def write_validation(reports: Path, record: ValidationRecord) -> Path:
    """Keeps a validation, in place of an earlier one of that run and dataset.

    Args:
        reports: ``reports/<dataset>`` of the run.
        record: The validation.

    Returns:
        The file.
    """
    path = record_path(reports, record.result.dataset, record.run_id)
    checked.write_record(path, records.to_json(record))
    return path


def read_validations(reports: Path) -> tuple[list[ValidationRecord], list[str]]:
    """All validations of a dataset's runs, the newest first.

    Args:
        reports: ``reports/<dataset>`` of the runs.

    Returns:
        The validations, and a line about each file that cannot be used.
    """
    kept, unusable = [], []
    for path in sorted((reports / FOLDER).glob("*.json")):
        try:
            record = records.from_json(ValidationRecord, checked.read_record(path))
            if record.schema != SCHEMA:
                raise ValueError(f"schema {record.schema}, not {SCHEMA}")
            kept.append(record)
        except (OSError, ValueError) as error:
            unusable.append(f"{FOLDER}/{path.name}, which cannot be used ({error})")
    return sorted(kept, key=lambda one: instant(one.created), reverse=True), unusable
