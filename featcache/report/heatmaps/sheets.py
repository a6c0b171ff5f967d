"""Pictures of explanations: one a map, sheets of classes and errors, mean maps."""

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from featcache.commands.explain import Activations, ExplainResult, HeatMap, MeanMap
from featcache.commands.explain.attribution.maps import upsampled
from featcache.core.io import write_json
from featcache.report.heatmaps.drawing import (
    GAP,
    SOFT,
    fitted,
    gridded,
    overlay,
    paper,
    plain,
    rising,
    scale,
    stretched,
    text,
)
from featcache.report.heatmaps.layout import (
    IMAGE,
    MAP,
    OVERLAY,
    Panel,
    Plan,
    Strip,
    save,
)

if TYPE_CHECKING:
    from PIL.Image import Image

PANEL, TILE = 340, 190
_WIDEST = 1500  # pixels of a sheet
_MOST = 60  # images on a sheet
UNIT = "margin in 1 % of the picture"
ROWS, FIGURES = "maps.json", "faithfulness.json"


def write(
    result: ExplainResult, folder: Path, *, cells: bool = False
) -> list[dict[str, Any]]:
    """Draws what was found, and writes its figures.

    Args:
        result: Of ``explain``.
        folder: Where to; ``reports/<dataset>/explain/<run_id>``.
        cells: Draw the borders of the cells behind each map.

    Returns:
        One row a map, with its files.
    """
    rows = []
    sheets = _sheets(result, folder)
    for one in result.maps:
        path = folder / f"{_stem(one)}.png"
        save(_single(one, result.run.run_id, cells), path)
        own = [path, *(sheets[key] for key in _keys(result, one) if key in sheets)]
        rows.append(row(one) | {"files": [str(p) for p in own]})
    for method in dict.fromkeys(m.method for m in result.means):
        of = [m for m in result.means if m.method == method]
        sheet, plan = _mean_sheet(of)
        save(sheet, folder / f"mean-{slug(method)}.png", plan)
    for found in result.activations:
        name = f"{found.subject.image_id[:12]}-{slug(found.layer)}-activations.png"
        save(_contact_sheet(found), folder / name)
    write_json(folder / ROWS, {"notes": result.notes, "maps": rows})
    if result.figures:
        figures = [_finite(asdict(figure)) for figure in result.figures]
        write_json(folder / FIGURES, figures)
    return rows


def row(one: HeatMap) -> dict[str, Any]:
    """What is told of a map; None where its method has no such number."""
    return _finite(
        {
            "image_id": one.subject.image_id,
            "path": one.subject.path,
            "label": one.subject.label,
            "part": one.subject.part,
            "class": one.label,
            "predicted": one.predicted,
            "probability": one.probability,
            "method": one.method,
            "score": one.score,
            "base": one.base,
            "map_sum": one.map_sum,
            "even": one.even,
            "even_share": one.even_share,
            "figures": _finite(one.figures),
        }
    )


def _finite(values: dict[str, Any]) -> dict[str, Any]:
    return {
        key: None if isinstance(v, float) and not math.isfinite(v) else v
        for key, v in values.items()
    }


def slug(name: str) -> str:
    """A name in the letters of a file name."""
    return re.sub(r"[^\w.+-]+", "-", name).strip("-.") or "none"


def _stem(one: HeatMap) -> str:
    return f"{one.subject.image_id[:12]}-{slug(one.label)}-{slug(one.method)}"


def density(values: np.ndarray) -> np.ndarray:
    """A map in margin a hundredth of the picture, whatever its pixels are."""
    return values * (values.size / 100)


def limit_of(maps: Iterable[np.ndarray]) -> float:
    """One scale for several maps: half of them reach its ends."""
    peaks = [float(np.abs(m).max()) for m in maps]
    return float(np.median(peaks)) or 1.0


def _single(one: HeatMap, run_id: str, cells: bool) -> "Image":
    """Original, overlay and map side by side."""
    values = density(one.values)
    limit = limit_of([values])
    picture = fitted(one.subject.picture, PANEL)
    panels = [
        ("image", picture),
        ("overlay", overlay(picture, values, limit)),
        ("map", plain(picture, values, limit)),
    ]
    if cells and one.grids:
        panels[1:] = [(n, gridded(p, min(one.grids))) for n, p in panels[1:]]
    top = 76
    width = 3 * (picture.width + GAP) + GAP + 88
    sheet = paper(max(width, 720), top + picture.height + 52)
    _head(sheet, one)
    x = GAP
    for name, panel in panels:
        text(sheet, (x, top - 18), name, 12, ink=SOFT)
        sheet.paste(panel, (x, top))
        x += picture.width + GAP
    sheet.paste(scale(limit, picture.height), (x, top))
    foot = top + picture.height + 8
    text(sheet, (GAP, foot), f"red: for {one.label}, blue: against; {UNIT}"
         + (f"; {_cells(one)}" if one.grids else ""), 12, ink=SOFT,
         width=sheet.width - 2 * GAP)  # fmt: skip
    text(sheet, (GAP, foot + 18), f"{one.subject.path} · {run_id}", 12, ink=SOFT,
         width=sheet.width - 2 * GAP)  # fmt: skip
    return sheet


def _head(sheet: "Image", one: HeatMap) -> None:
    wide = sheet.width - 2 * GAP
    title = f"{one.label}  {one.probability:.2f}"
    text(sheet, (GAP, 8), title, 22, width=wide)
    known = f"labelled {one.subject.label}" if one.subject.label else "no label known"
    said = "" if one.predicted == one.label else f", predicted {one.predicted}"
    words = f"{one.method} · {known}{said} · {one.subject.part}"
    if math.isfinite(one.base):
        words += f" · score {one.score:+.2f} = base {one.base:+.2f}"
        words += f" and map {one.map_sum:+.2f}"
        gap = one.score - one.base - one.map_sum
        words += f", {gap:+.2f} unexplained" if abs(gap) >= 0.005 else ""
    else:
        words += f" · score {one.score:+.2f}"
    text(sheet, (GAP, 36), words, 13, ink=SOFT, width=wide)


def _cells(one: HeatMap) -> str:
    grids = dict.fromkeys(f"{rows}x{columns}" for rows, columns in one.grids)
    text = f"known in {', '.join(grids)} cells"
    if one.even_share >= 0.005:
        text += f", {one.even_share:.0%} of it spread evenly"
    return text


def _keys(result: ExplainResult, one: HeatMap) -> list[str]:
    """Names of the sheets that a map is on."""
    if result.of_errors:
        return ["errors"]
    return [f"class-{slug(one.subject.label)}"] if one.subject.label else []


def _sheets(result: ExplainResult, folder: Path) -> dict[str, Path]:
    """One sheet a class, or that of the errors."""
    by_name: dict[str, list[HeatMap]] = {}
    for one in result.maps:
        for key in _keys(result, one):
            by_name.setdefault(key, []).append(one)
    paths = {}
    for name, maps in by_name.items():
        title = "Surest errors" if result.of_errors else maps[0].subject.label
        paths[name] = folder / f"{name}.png"
        sheet, plan = _sheet(title, maps, result.run.run_id)
        save(sheet, paths[name], plan)
    return paths


def _sheet(title: str, maps: Sequence[HeatMap], run_id: str) -> "tuple[Image, Plan]":
    """A strip an image, original first, then its maps; one scale a method."""
    by_image: dict[str, list[HeatMap]] = {}
    for one in maps:
        by_image.setdefault(one.subject.image_id, []).append(one)
    own = list(by_image.values())[:_MOST]
    methods = dict.fromkeys(m.method for m in maps)
    limits = {
        name: limit_of(density(m.values) for m in maps if m.method == name)
        for name in methods
    }
    wide = (1 + max(map(len, own))) * (TILE + 4) + GAP
    tall, columns = TILE + 44, max(1, min(len(own), _WIDEST // wide))
    rows = -(-len(own) // columns)
    sheet = paper(max(columns * wide + GAP, 560), 74 + rows * tall + GAP)
    left = (
        f", {len(by_image) - len(own)} more not shown" if len(by_image) > _MOST else ""
    )
    text(sheet, (GAP, 8), f"{title} · {len(own)} images{left}", 20)
    words = "; ".join(f"{n}: ±{limits[n]:.2g}" for n in methods)
    line = f"red: for the class, blue: against; {UNIT}, full colour at {words}"
    text(sheet, (GAP, 36), line, 12, ink=SOFT, width=sheet.width - 2 * GAP)
    text(sheet, (GAP, 52), run_id, 12, ink=SOFT, width=sheet.width - 2 * GAP)
    strips = [
        _strip(
            sheet, strip, limits, (GAP + n % columns * wide, 74 + n // columns * tall)
        )
        for n, strip in enumerate(own)
    ]
    return sheet, Plan(title, limits, strips)


def _strip(
    sheet: "Image",
    strip: Sequence[HeatMap],
    limits: dict[str, float],
    at: tuple[int, int],
) -> Strip:
    x, y = at
    picture = fitted(strip[0].subject.picture, TILE)
    down = TILE - picture.height  # so that captions are near
    across = (TILE - picture.width) // 2
    box = _pasted(sheet, picture, (x + across, y + down))
    of = strip[0].subject
    found = Strip(of.path, of.label or "", of.part, 1, [Panel(IMAGE, box)])
    text(sheet, (x, y + TILE + 3), Path(of.path).name, 12, width=TILE)
    label = of.label or "no label"
    text(sheet, (x, y + TILE + 18), f"is {label}", 12, ink=SOFT, width=TILE)
    for one in strip:
        x += TILE + 4
        drawn = overlay(picture, density(one.values), limits[one.method])
        box = _pasted(sheet, drawn, (x + across, y + down))
        about = one.label, one.method, one.probability
        found.panels.append(Panel(OVERLAY, box, *about))
        words = f"{one.label} {one.probability:.2f}"
        text(sheet, (x, y + TILE + 3), words, 12, width=TILE)
        text(sheet, (x, y + TILE + 18), one.method, 12, ink=SOFT, width=TILE)
    return found


def _pasted(
    sheet: "Image", picture: "Image", at: tuple[int, int]
) -> tuple[int, int, int, int]:
    """Pastes a picture; returns its box."""
    sheet.paste(picture, at)
    return (*at, at[0] + picture.width, at[1] + picture.height)


def _mean_sheet(means: Sequence[MeanMap]) -> "tuple[Image, Plan]":
    """A row a class: mean picture, overlay, map; one scale for all."""
    from PIL import Image

    limit = limit_of(density(m.values) for m in means)
    side, top = 260, 62
    sheet = paper(3 * (side + GAP) + GAP + 92, top + len(means) * (side + 34) + GAP)
    text(sheet, (GAP, 8), f"Mean maps · {means[0].method}", 20)
    words = f"each class's evidence, mean over its images; {UNIT}"
    text(sheet, (GAP, 36), words, 12, ink=SOFT)
    plan = Plan("Mean maps", {means[0].method: limit})
    for n, one in enumerate(means):
        y = top + n * (side + 34)
        caption = f"{one.label} · {one.images} images, {one.part}"
        text(sheet, (GAP, y), caption, 13, width=sheet.width)
        picture = fitted(Image.fromarray(one.picture), side)
        values = density(one.values)
        panels = {
            IMAGE: picture, OVERLAY: overlay(picture, values, limit),
            MAP: plain(picture, values, limit),
        }  # fmt: skip
        found = Strip(one.label, one.label, one.part, one.images)
        for column, (kind, panel) in enumerate(panels.items()):
            box = _pasted(sheet, panel, (GAP + column * (side + GAP), y + 20))
            found.panels.append(Panel(kind, box, one.label, one.method))
        plan.strips.append(found)
        sheet.paste(scale(limit, side), (GAP + 3 * (side + GAP), y + 20))
    return sheet, plan


def _contact_sheet(found: Activations) -> "Image":
    """The image, then its strongest channels; each on a scale of its own."""
    from PIL import Image

    picture = fitted(found.subject.picture, TILE)
    tiles = [("image", picture)]
    for channel, mean, cells in zip(
        found.channels, found.means, found.maps, strict=True
    ):
        values = stretched(upsampled(cells.astype(np.float64), TILE), picture.size)
        tile = Image.fromarray(rising(values))
        tiles.append((f"channel {channel}, mean {mean:.3g}", tile))
    columns = 4
    tall = TILE + 24
    rows = -(-len(tiles) // columns)
    sheet = paper(columns * (TILE + GAP) + GAP, 62 + rows * tall + GAP)
    wide = sheet.width - 2 * GAP
    text(sheet, (GAP, 8), found.layer, 18, width=wide)
    size = "x".join(map(str, found.maps.shape[1:]))
    words = f"strongest of {found.count} channels, {size} cells, yellow: strong"
    text(sheet, (GAP, 32), f"{words} · {found.subject.path}", 12, ink=SOFT, width=wide)
    for n, (caption, tile) in enumerate(tiles):
        x, y = GAP + n % columns * (TILE + GAP), 62 + n // columns * tall
        sheet.paste(tile, (x + (TILE - tile.width) // 2, y + TILE - tile.height))
        text(sheet, (x, y + TILE + 4), caption, 12, ink=SOFT, width=TILE)
    return sheet
