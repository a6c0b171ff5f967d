"""What is made of one answer: its heat map, and a sheet to keep."""

import base64
from dataclasses import dataclass
from typing import Any

from PIL import Image

from featcache.deploy.answers import OK, Answer
from featcache.deploy.model import Candidate
from featcache.serve.drawing import RESEARCH, overlay, png_of, sheet
from featcache.serve.explaining import NoMapError
from featcache.serve.served import Served, TrainingPictures
from featcache.serve.zones import WORDS

_DIGITS = 12  # of digests on a sheet


@dataclass(frozen=True, eq=False)
class Answered:
    """An image and its answer.

    Attributes:
        data: The bytes of its file.
        candidate: Its pixels.
        answer: The answer.
    """

    data: bytes
    candidate: Candidate
    answer: Answer


def explanation(served: Served, answered: Answered, label: str) -> dict[str, Any]:
    """What ``POST /explain`` gives.

    Args:
        served: The bundle.
        answered: The image.
        label: The class; empty where the image was refused.
    """
    if not label:
        return {
            "class": None,
            "reason": f"the image is refused: {answered.answer.reason}",
        }
    try:
        made = served.explainer.explain(answered.candidate, label)
    except NoMapError as error:
        return {"class": label, "reason": error.problem}
    contours = overlay(made, answered.candidate.picture.image.size)
    data = base64.b64encode(png_of(contours)).decode()
    return {
        "class": label,
        "reason": "",
        "score": made.score,
        "base": made.base,
        "map_sum": float(made.values.sum()),
        "even_share": made.even_share,
        "method": made.method,
        "overlay": f"data:image/png;base64,{data}",
    }


def sheet_of(
    served: Served, answered: Answered, pictures: TrainingPictures
) -> Image.Image:
    """The image with contours, where there are any, and its answer in words."""
    answer, picture = answered.answer, answered.candidate.picture.image
    row = served.to_json(answer, pictures)
    contours = None
    lines = [f"Refused: {answer.reason}."]
    if answer.status == OK:
        lines = _lines(row)
        try:
            made = served.explainer.explain(answered.candidate, answer.label)
            contours = overlay(made, picture.size)
            lines.append(
                f"Contours: evidence for {answer.label} (orange) and against (blue)."
            )
        except NoMapError as error:
            lines.append(f"No heat map: {error.problem}.")
    digest = str(served.model.bundle_sha256)[:_DIGITS]
    lines += [
        f"Bundle {served.name} ({digest}), image {answer.image_id[:_DIGITS]}.",
        RESEARCH,
    ]
    return sheet(picture, lines, contours)


def _lines(row: dict[str, Any]) -> list[str]:
    p = ", ".join(f"{name} {value:.3f}" for name, value in row["probabilities"].items())
    zone = f" ({WORDS[row['zone']]})" if row["zone"] else ""
    lines = [f"Most probable: {row['class']}{zone}.", f"Calibrated probabilities: {p}."]
    return lines + ["The model was trained on this image."] * row["in_training"]
