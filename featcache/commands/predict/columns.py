"""The columns of predictions: headings, kinds, and the value of each in an answer."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from featcache.deploy.answers import Answer, Answering

TEXT, NUMBER, FLAG, COUNT = "text", "number", "flag", "count"


@dataclass(frozen=True)
class Column:
    """A column of the rows.

    Attributes:
        name: Its heading.
        kind: "text" (str), "number" (float), "flag" (bool) or "count" (int). All but
            texts are None where an answer has no value.
        value: Takes the value from an answer.
    """

    name: str
    kind: str
    value: Callable[[Answer], Any]


def columns_of(
    model: Answering, further: Sequence[str], *, grouped: bool
) -> list[Column]:
    """The columns of a model's answers, in order.

    Args:
        model: The model.
        further: Columns of the tables that name the images; one that is called like
            one of ours becomes ``given_NAME``.
        grouped: Whether there are answers for patients as well.
    """
    columns = [
        Column("path", TEXT, lambda answer: answer.path),
        Column("image_id", TEXT, lambda answer: answer.image_id),
        Column("status", TEXT, lambda answer: answer.status),
        Column("reason", TEXT, lambda answer: answer.reason),
        Column("in_training", FLAG, lambda answer: answer.in_training),
        Column("class", TEXT, lambda answer: answer.label),
        *(_probability(number, name) for number, name in enumerate(model.classes)),
        *(_zone(name) for name in model.zone_columns),
        *(_named(name, FLAG, "flags") for name in model.flag_columns),
        *(_named(name, NUMBER, "scores") for name in model.score_columns),
        Column("nearest_id", TEXT, lambda a: a.nearest[0] if a.nearest else ""),
        Column("nearest_label", TEXT, lambda a: a.nearest[1] if a.nearest else ""),
        Column(
            "nearest_distance", NUMBER, lambda a: a.nearest[2] if a.nearest else None
        ),
    ]
    if grouped:
        columns += [
            Column("level", TEXT, lambda answer: answer.level),
            Column("group", TEXT, lambda answer: answer.group),
            Column("n_images", COUNT, lambda answer: answer.n_images),
        ]
    taken = {column.name for column in columns}
    for name in further:
        heading = name
        while heading in taken:
            heading = f"given_{heading}"
        taken.add(heading)
        columns.append(_further(name, heading))
    return columns


def _probability(number: int, name: str) -> Column:
    return Column(
        f"p_{name}", NUMBER, lambda a: None if a.p is None else float(a.p[number])
    )


def _zone(name: str) -> Column:
    return Column(name, TEXT, lambda answer: answer.zones.get(name, ""))


def _named(name: str, kind: str, values: str) -> Column:
    return Column(name, kind, lambda answer: getattr(answer, values).get(name))


def _further(name: str, heading: str) -> Column:
    return Column(heading, TEXT, lambda answer: answer.columns.get(name, ""))
