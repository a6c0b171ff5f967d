"""Pictures of explanations: one a map, sheets of classes and errors, mean maps."""

import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from featcache.commands.explain import Activations, ExplainResult, HeatMap
from featcache.commands.explain.attribution.maps import upsampled
from featcache.core.io import write_json
from featcache.core.text import file_name, percent
from featcache.report.heatmaps import records
from featcache.report.heatmaps.drawing import (
    GAP,
    SOFT,
    fitted,
    gridded,
    overlay,
    paper,
    plain,
    rising,
    save,
    scale,
    stretched,
    text,
)
from featcache.report.heatmaps.records import (
    TILE,
    Sheet,
    ShownMap,
    density,
    limit_of,
    sheet_name,
)

if TYPE_CHECKING:
    from PIL.Image import Image

PANEL, MEAN_SIDE = 340, 260
_WIDEST = 1500  # pixels of a sheet
_MOST = 60  # images on a sheet
UNIT = "margin per 1 % of the image"
ROWS, FIGURES = "maps.json", "faithfulness.json"


def write(
    result: ExplainResult, folder: Path, *, cells: bool = False
) -> list[dict[str, Any]]:
    """Draws the maps of a call, and writes their figures.

    Args:
        result: Of ``explain``.
        folder: Where to; ``reports/<dataset>/explain/<run_id>``.
        cells: Draw the borders of the cells behind each map.

    Returns:
        One row a map, with its files.
    """
    sheets = records.sheets_of(result)
    records.save(sheets, folder)
    for sheet in sheets:
        draw = _mean_sheet if sheet.is_mean else _sheet
        save(draw(sheet, result.run.run_id), folder / f"{sheet.name}.png")
    rows = []
    for one in result.maps:
        path = folder / _name(one.image.image_id, one.label, one.method)
        save(_single(one, result.run.run_id, cells), path)
        name, _ = sheet_name(result, one)
        files = [str(path), str(folder / f"{name}.png")]
        rows.append(row(one) | {"files": files})
    for activation in result.activations:
        name = _name(activation.image.image_id, activation.layer, "activations")
        save(_contact_sheet(activation), folder / name)
    write_json(folder / ROWS, {"notes": result.notes, "maps": rows})
    if result.figures:
        figures = [_finite(asdict(figure)) for figure in result.figures]
        write_json(folder / FIGURES, figures)
    return rows


def row(one: HeatMap) -> dict[str, Any]:
    """The figures of a map; None where its method has no such number."""
    return _finite(
        {
            "image_id": one.image.image_id,
            "path": one.image.path,
            "label": one.image.label,
            "part": one.image.part,
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


def _name(image_id: str, *words: str) -> str:
    """The name of a picture's file; dots separate what may have hyphens."""
    return ".".join([image_id[:12], *map(file_name, words), "png"])


def _single(one: HeatMap, run_id: str, cells: bool) -> "Image":
    """Original, overlay and map side by side."""
    values = density(one.values)
    limit = limit_of([values])
    picture = fitted(one.picture, PANEL)
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
    text(sheet, (GAP, foot + 18), f"{one.image.path} · {run_id}", 12, ink=SOFT,
         width=sheet.width - 2 * GAP)  # fmt: skip
    return sheet


def _head(sheet: "Image", one: HeatMap) -> None:
    wide = sheet.width - 2 * GAP
    title = f"{one.label}  {one.probability:.2f}"
    text(sheet, (GAP, 8), title, 22, width=wide)
    label_text = f"labelled {one.image.label}" if one.image.label else "no label"
    prediction = "" if one.predicted == one.label else f", predicted {one.predicted}"
    words = f"{one.method} · {label_text}{prediction} · {one.image.part}"
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
    text = f"resolution {', '.join(grids)} cells"
    if one.even_share >= 0.005:
        text += f", {percent(one.even_share)} of the evidence spread evenly"
    return text


def _sheet(sheet: Sheet, run_id: str) -> "Image":
    """A strip an image, original first, then its maps; one scale a method."""
    strips = sheet.strips[:_MOST]
    wide = (1 + max(map(len, strips))) * (TILE + 4) + GAP
    tall, columns = TILE + 44, max(1, min(len(strips), _WIDEST // wide))
    rows = -(-len(strips) // columns)
    page = paper(max(columns * wide + GAP, 560), 74 + rows * tall + GAP)
    more = len(sheet.strips) - len(strips)
    title = f"{sheet.title} · {len(strips)} images"
    text(page, (GAP, 8), title + (f", {more} more not shown" if more else ""), 20)
    limits = "; ".join(f"{name}: ±{v:.2g}" for name, v in sheet.scales.items())
    line = f"red: for the class, blue: against; {UNIT}, full colour at {limits}"
    text(page, (GAP, 36), line, 12, ink=SOFT, width=page.width - 2 * GAP)
    text(page, (GAP, 52), run_id, 12, ink=SOFT, width=page.width - 2 * GAP)
    for n, strip in enumerate(strips):
        corner = GAP + n % columns * wide, 74 + n // columns * tall
        _paste_strip(page, strip, sheet.scales, corner)
    return page


def _paste_strip(
    page: "Image",
    strip: Sequence[ShownMap],
    scales: dict[str, float],
    corner: tuple[int, int],
) -> None:
    image, (x, y) = strip[0].image, corner
    label = f"is {image.label}" if image.label else "no label"
    panels = [(image.picture, Path(image.name).name, label)]
    for one in strip:
        panel = overlay(image.picture, one.density, scales[one.method])
        panels.append((panel, f"{one.target} {one.probability:.2f}", one.method))
    for panel, caption, note in panels:
        # At the bottom of its tile, so that the caption is near.
        at = x + (TILE - panel.width) // 2, y + TILE - panel.height
        page.paste(panel, at)
        text(page, (x, y + TILE + 3), caption, 12, width=TILE)
        text(page, (x, y + TILE + 18), note, 12, ink=SOFT, width=TILE)
        x += TILE + 4


def _mean_sheet(sheet: Sheet, run_id: str) -> "Image":
    """A row a class: mean picture, overlay, map; one scale for all."""
    (method, limit), side, top = *sheet.scales.items(), MEAN_SIDE, 62
    height = top + len(sheet.maps) * (side + 34) + GAP
    page = paper(3 * (side + GAP) + GAP + 92, height)
    text(page, (GAP, 8), f"{sheet.title} · {method}", 20)
    words = f"each class's evidence, mean over its images; {UNIT} · {run_id}"
    text(page, (GAP, 36), words, 12, ink=SOFT, width=page.width - 2 * GAP)
    for n, one in enumerate(sheet.maps):
        y = top + n * (side + 34)
        caption = f"{one.target} · {one.image.count} images, {one.image.part}"
        text(page, (GAP, y), caption, 13, width=page.width)
        picture = fitted(one.image.picture, side)
        panels = (
            picture,
            overlay(picture, one.density, limit),
            plain(picture, one.density, limit),
        )
        for column, panel in enumerate(panels):
            page.paste(panel, (GAP + column * (side + GAP), y + 20))
        page.paste(scale(limit, side), (GAP + 3 * (side + GAP), y + 20))
    return page


def _contact_sheet(channels: Activations) -> "Image":
    """The image, then its strongest channels; each on a scale of its own."""
    from PIL import Image

    picture = fitted(channels.picture, TILE)
    tiles = [("image", picture)]
    for channel, mean, cells in zip(
        channels.channels, channels.means, channels.maps, strict=True
    ):
        values = stretched(upsampled(cells.astype(np.float64), TILE), picture.size)
        tile = Image.fromarray(rising(values))
        tiles.append((f"channel {channel}, mean {mean:.3g}", tile))
    columns = 4
    tall = TILE + 24
    rows = -(-len(tiles) // columns)
    sheet = paper(columns * (TILE + GAP) + GAP, 62 + rows * tall + GAP)
    wide = sheet.width - 2 * GAP
    text(sheet, (GAP, 8), channels.layer, 18, width=wide)
    size = "x".join(map(str, channels.maps.shape[1:]))
    words = f"strongest of {channels.count} channels, {size} cells, yellow: strong"
    text(sheet, (GAP, 32), f"{words} · {channels.image.path}", 12, ink=SOFT, width=wide)
    for n, (caption, tile) in enumerate(tiles):
        x, y = GAP + n % columns * (TILE + GAP), 62 + n // columns * tall
        sheet.paste(tile, (x + (TILE - tile.width) // 2, y + TILE - tile.height))
        text(sheet, (x, y + TILE + 4), caption, 12, ink=SOFT, width=TILE)
    return sheet
