"""``featcache predict``: what a trained model says of new images, row by row."""

from collections import Counter
from collections.abc import Generator, Iterator
from contextlib import closing
from typing import Any

from featcache.commands.predict.columns import Column, columns_of
from featcache.commands.predict.writing import (
    FORMATS,
    check_format,
    write,
    write_text,
)
from featcache.core.progress import SILENT, Reporter
from featcache.core.text import counted
from featcache.dataset.sources.inputs import Inputs
from featcache.deploy.answers import (
    BATCH_SIZE,
    OK,
    REFUSED,
    UNREADABLE,
    Answer,
    Answering,
    stream,
)
from featcache.deploy.patients import Grouping, PatientAnswers
from featcache.errors import UsageError

__all__ = [
    "FORMATS",
    "Column",
    "Predictions",
    "check_format",
    "predict",
    "write",
    "write_text",
]


class Predictions:
    """Answers that are made while they are taken; they can be taken once.

    Attributes:
        columns: Of the rows, in order.
        counts: Images so far by their status: "ok", "refused", "unreadable".
        n_in_training: Those that the model was trained on.
    """

    def __init__(
        self,
        columns: list[Column],
        answers: Generator[Answer, None, None],
        patients: PatientAnswers | None,
        reporter: Reporter,
        total: int | None,
    ) -> None:
        self.columns = columns
        self.counts: Counter[str] = Counter()
        self.n_in_training = 0
        self._patients = patients
        self._answers = self._run(answers, reporter, total)

    def __iter__(self) -> Iterator[Answer]:
        return self._answers

    def rows(self) -> Iterator[list[Any]]:
        """Each answer as a row of values, in the order of the columns."""
        return ([c.value(answer) for c in self.columns] for answer in self)

    def close(self) -> None:
        """Ends the work; only images that are just being read are read to the end."""
        self._answers.close()

    @property
    def summary(self) -> str:
        """How many images there were so far, in one line."""
        total, counts = self.counts.total(), self.counts
        text = (
            f"{counted(total, 'image')}: {counts[OK]} ok, "
            f"{counts[REFUSED]} refused, {counts[UNREADABLE]} unreadable"
        )
        if self._patients and self._patients.n_without:
            text += f"; {self._patients.n_without} of them have no patient"
        return text

    @property
    def warning(self) -> str:
        """What the answers so far cannot be used for; empty if nothing."""
        n, total = self.n_in_training, self.counts.total()
        if not n:
            return ""
        beside = self._patients.n_beside_training if self._patients else 0
        further = f", and {beside} more are of the same patients" if beside else ""
        return (
            f"{n} of {counted(total, 'image')} {'was' if n == 1 else 'were'} in the "
            f"training set of this model (in_training is true){further}; the answers "
            "for them say nothing about new images: do not compute an accuracy from "
            "them (featcache validate leaves them out)"
        )

    def _run(
        self,
        answers: Generator[Answer, None, None],
        reporter: Reporter,
        total: int | None,
    ) -> Generator[Answer, None, None]:
        with closing(answers):
            for done, answer in enumerate(answers, 1):
                self.counts[answer.status] += 1
                self.n_in_training += bool(answer.in_training)
                if self._patients:
                    self._patients.add(answer)
                reporter.progress("predict", done, max(total or 0, done))
                yield answer
        if self._patients:
            yield from self._patients.answers()


def predict(
    model: Answering,
    inputs: Inputs,
    *,
    by: str | None = None,
    refuse: bool = True,
    batch_size: int = BATCH_SIZE,
    reporter: Reporter = SILENT,
) -> Predictions:
    """Answers for images, and for their patients.

    The arguments are checked now; images are read and answered when the answers are
    taken, so that memory does not grow with their number. What cannot be read has an
    answer with the status "unreadable".

    Args:
        model: The trained model.
        inputs: The images, as `open_inputs` lists them.
        by: What names the patient: a column of a CSV among the inputs, a regular
            expression with one group for the file name (or the folders below an input,
            if it fits no file name), or "dicom:" and the keyword of a DICOM element.
            An answer for each patient, the mean over its images, follows those for the
            images.
        refuse: Leave images that the model refuses without a class.
        batch_size: Most images in one call of the model.
        reporter: Hears how many images are answered, as "predict".

    Raises:
        UsageError: An argument that can never work.
        DatasetError: No image has a patient.
    """
    if batch_size < 1:
        raise UsageError(
            "`batch_size` of at least 1", str(batch_size), "Give 1 or more."
        )
    grouping = Grouping(by, inputs) if by else None
    answers = stream(
        model, inputs, batch_size=batch_size, refuse=refuse, group_of=grouping
    )
    return Predictions(
        columns_of(model, inputs.columns, grouped=bool(by)),
        answers,
        PatientAnswers(model) if by else None,
        reporter,
        inputs.total,
    )
