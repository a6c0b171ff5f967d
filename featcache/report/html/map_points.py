"""The points of the map: where each image lies, and what is known of it."""

from dataclasses import dataclass
from typing import Any

import pandas as pd

from featcache.evaluation.runs import Run
from featcache.report.html import embedding_map
from featcache.report.html.context import ReportContext, embeddings

_GRID = 10_000  # places are whole numbers up to this: shorter than fractions


@dataclass(frozen=True)
class Points:
    """N images of the best run.

    Attributes:
        run_id: The run.
        ids: (N,) image ids.
        paths: (N,) paths.
        chances: (N,) probability of the true class, in thousandths.
        layouts: Name, places (2N whole numbers, x and y in turn), titles, note.
        colours: Name, values, and for each image the number of its value.
        excluded: Images that are not drawn, because there are too many.
    """

    run_id: str
    ids: list[str]
    paths: list[str]
    chances: list[int]
    layouts: list[dict[str, Any]]
    colours: list[dict[str, Any]]
    excluded: int


def points(context: ReportContext) -> Points | None:
    """Maps the images of the first run whose features are available; None without."""
    for run in context.runs:
        features = embeddings(context, run)
        if features is None:
            continue
        table = run.table.set_index("image_id")
        table = table[table.index.isin(features.index)]
        sampled = table.loc[embedding_map.sample(table["label"])]
        layouts = embedding_map.layouts(features.loc[sampled.index].to_numpy())
        if layouts:
            excluded = len(table) - len(sampled)
            return _points(context, run, sampled, layouts, excluded)
    return None


def _points(
    context: ReportContext,
    run: Run,
    table: pd.DataFrame,
    layouts: list[embedding_map.Layout],
    excluded: int,
) -> Points:
    p = table[[f"p_{name}" for name in run.classes]]
    predicted = p.to_numpy().argmax(axis=1)
    codes = table["label"].map({name: i for i, name in enumerate(run.classes)})
    right = predicted == codes.to_numpy()
    parts = table["fold"].map(lambda k: "test set" if k < 0 else f"fold {k}")
    colours = [
        {"name": "class", "values": run.classes, "codes": codes.tolist()},
        {"name": "predicted", "values": run.classes, "codes": predicted.tolist()},
        _colour("outcome", pd.Series(right).map({True: "right", False: "wrong"})),
        _colour("part of the split", parts),
    ]
    for name, values in context.sources.items():
        colours.append(_colour(name, values.reindex(table.index).fillna("(not given)")))
    true_probability = p.to_numpy()[range(len(p)), codes.to_numpy(int)]
    return Points(
        run.run_id,
        list(table.index),
        context.images["path"].reindex(table.index).fillna("").tolist(),
        [round(1000 * chance) for chance in true_probability.tolist()],
        [_layout(one) for one in layouts],
        colours,
        excluded,
    )


def _colour(name: str, values: pd.Series) -> dict[str, Any]:
    """Numbers the values of a column in sorted order."""
    codes, names = pd.factorize(values, sort=True)
    return {"name": name, "values": list(map(str, names)), "codes": codes.tolist()}


def _layout(one: embedding_map.Layout) -> dict[str, Any]:
    return {
        "name": one.name,
        "xy": (one.xy * _GRID).round().astype(int).ravel().tolist(),
        "x": one.x,
        "y": one.y,
        "note": one.note,
    }
