"""Patients: which images are of the same one, and the answer for all of them."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from featcache.core.text import some
from featcache.dataset.grouping import DICOM, MISSING, group_pattern
from featcache.dataset.images import dicom
from featcache.dataset.sources.base import name_of
from featcache.dataset.sources.inputs import InputImage, Inputs, escaped
from featcache.deploy.answers import (
    OK,
    PATIENT,
    REFUSED,
    UNREADABLE,
    Answer,
    Answering,
)
from featcache.errors import DatasetError, UsageError

_COLUMN = "column:"


class Grouping:
    """Names the patient of an image.

    Args:
        by: A column of the tables among the inputs (also as ``column:NAME``), a regular
            expression with one group for file names, or ``dicom:KEYWORD``, of which a
            pseudonym is taken.
        inputs: The images. Where the expression is in none of their file names, it is
            looked for in the folders below each input as well, unless there is standard
            input, which cannot be looked through in advance.

    Raises:
        UsageError: It is none of these, or there is no such column or element.
        DatasetError: The expression is in none of them.
    """

    def __init__(self, by: str, inputs: Inputs) -> None:
        self._column = self._keyword = ""
        self._pattern = None
        self._whole_path = False
        name = by.removeprefix(_COLUMN)
        if name in inputs.columns:
            self._column = name
        elif by.startswith(DICOM):
            self._keyword = by.removeprefix(DICOM)
            dicom.check_keyword(self._keyword, "by")
        else:
            self._pattern = None if by.startswith(_COLUMN) else group_pattern(by)
            if self._pattern is None:
                raise UsageError(
                    "`by` with a column, a regular expression with one group, or "
                    f"dicom:KEYWORD (columns: {some(inputs.columns) or 'none'})",
                    by,
                    f"Name a column of a CSV with path, or write dicom:{dicom.PATIENT} "
                    r"or an expression such as '(\d{8})_'.",
                )
            self._whole_path = self._is_in_folders(by, inputs)

    def _is_in_folders(self, by: str, inputs: Inputs) -> bool:
        if inputs.total is None or any(self._match(name_of(i.below)) for i in inputs):
            return False
        if not any(self._match(image.below) for image in inputs):
            example = escaped(next(iter(inputs)).below)
            raise DatasetError(
                f"patients named by {by} (`by`)",
                f"none in a file name or folder, e.g. {example}",
                "Correct the expression.",
            )
        return True

    def _match(self, text: str) -> str:
        match = self._pattern.search(text) if self._pattern else None
        return match[1] or "" if match else ""

    def __call__(self, image: InputImage, data: bytes) -> str:
        """The patient of an image; empty where nothing names one."""
        if self._column:
            name = image.columns.get(self._column, "").strip()
        elif self._keyword:
            is_dicom = dicom.is_dicom(data[:132])
            name = dicom.pseudonym(data, self._keyword) if is_dicom else ""
        else:
            name = self._match(
                image.below if self._whole_path else name_of(image.below)
            )
        return "" if name.lower() in MISSING else escaped(name)


@dataclass
class _Mean:
    """Probabilities of one patient's images, each content once."""

    ids: set[str] = field(default_factory=set)
    sums: dict[str, np.ndarray] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    n_files: int = 0
    n_in_training: int = 0
    in_training: bool | None = None

    def add(self, answer: Answer) -> None:
        self.n_files += 1
        if answer.in_training is not None:
            self.n_in_training += answer.in_training
            self.in_training = self.n_in_training > 0
        if answer.image_id and answer.image_id in self.ids:
            return
        self.ids.add(answer.image_id)
        self.counts[answer.status] = self.counts.get(answer.status, 0) + 1
        if answer.p is not None:
            so_far = self.sums.get(answer.status, np.zeros_like(answer.p))
            self.sums[answer.status] = so_far + answer.p


class PatientAnswers:
    """Collects the answers for images, and gives those for their patients.

    Args:
        model: Whose answers they are.
    """

    def __init__(self, model: Answering) -> None:
        self._model = model
        self._means: dict[str, _Mean] = {}
        self.n_without = 0

    def add(self, answer: Answer) -> None:
        """Counts an answer to its patient; an image without one is its own."""
        self.n_without += not answer.group
        name = answer.group or answer.image_id
        if name:
            self._means.setdefault(name, _Mean()).add(answer)

    @property
    def n_beside_training(self) -> int:
        """Images that were not in training, of patients of whom another was."""
        means = [mean for mean in self._means.values() if mean.in_training]
        return sum(mean.n_files - mean.n_in_training for mean in means)

    def answers(self) -> Iterator[Answer]:
        """One answer per patient, in the order in which they came up first.

        Its probabilities are the mean over its images with the status ok, a content
        that came twice counted once; if there is none, over those that were refused and
        answered all the same. These means reach operating points or not.
        """
        for name, mean in self._means.items():
            yield self._answer(name, mean)

    def _answer(self, name: str, mean: _Mean) -> Answer:
        status = next(one for one in (OK, REFUSED, UNREADABLE) if one in mean.counts)
        answer = Answer(
            *("", "", status, "" if status == OK else _reason(status, mean)),
            in_training=mean.in_training,
            group=name,
            level=PATIENT,
            n_images=0,
        )
        if status not in mean.sums:
            return answer
        p = mean.sums[status] / mean.counts[status]
        flags, zones = self._model.flags(p[None]), self._model.zones(p[None])
        return replace(
            answer,
            label=self._model.classes[int(p.argmax())],
            p=p,
            flags={column: bool(rows[0]) for column, rows in flags.items()},
            zones={column: str(rows[0]) for column, rows in zones.items()},
            n_images=mean.counts[status],
        )


def _reason(status: str, mean: _Mean) -> str:
    """Why there is no answer of images that are fit for one."""
    what = "refused or unreadable" if len(mean.counts) > 1 else status
    return (
        f"its only image is {what}"
        if mean.n_files == 1
        else f"all its images are {what}"
    )
