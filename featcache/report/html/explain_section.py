"""Where a run looks: the maps and figures that ``featcache explain`` recorded."""

import base64
import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from featcache.core.io import read_json
from featcache.core.records import MaybeNaN, from_json
from featcache.evaluation.runs import Run
from featcache.report.heatmaps import drawing, records
from featcache.report.heatmaps.records import ERRORS, Sheet, ShownMap
from featcache.report.heatmaps.sheets import FIGURES, MEAN_SIDE, ROWS, UNIT
from featcache.report.html.context import ReportContext
from featcache.report.html.scoring import Estimate

if TYPE_CHECKING:
    from PIL.Image import Image

FOLDER = "explain"  # in the reports of a dataset
MOST_RUNS = 3  # that are shown
_MOST_CARDS = 12  # of mean maps, and of images
_MOST_MAPS = 4  # beside an image
_QUALITY = 78

T = TypeVar("T")


@dataclass(frozen=True)
class Tile:
    """A picture as a data URI.

    Attributes:
        uri: The WebP.
        alt: What it shows.
        caption: Below it.
        width: In pixels.
        height: Likewise.
    """

    uri: str
    alt: str
    caption: str
    width: int
    height: int


@dataclass(frozen=True)
class Card:
    """The pictures of a class or an image, and what is above them."""

    title: str
    text: str
    tiles: list[Tile]


@dataclass(frozen=True)
class Cards:
    """Cards on one scale a method.

    Attributes:
        title: What they show.
        note: Where their colours are full, and how many more there are.
        cards: The cards.
        is_mean: Whether they are of classes and not of images.
    """

    title: str
    note: str
    cards: list[Card]
    is_mean: bool


@dataclass(frozen=True)
class FigureRow:
    """How faithful the maps of a class by a method are."""

    label: str
    method: str
    images: int
    values: list[Estimate]


@dataclass(frozen=True)
class MapSection:
    """What the page shows of a run's maps; see the template.

    Attributes:
        folder: Where everything is, below the dataset's reports.
        is_shown: Whether there is more than the folder's name.
        notes: What a reader of the maps has to know.
        groups: Mean maps first.
        names: Of the figures, in the order of their values.
        figures: One row a class and method.
    """

    folder: str
    is_shown: bool = True
    notes: list[str] = field(default_factory=list)
    groups: list[Cards] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    figures: list[FigureRow] = field(default_factory=list)

    @property
    def help(self) -> str:
        """What the figures are."""
        kinds = dict.fromkeys(name.split(" ")[0] for name in self.names)
        texts = [_HELP[kind] for kind in kinds if kind in _HELP]
        return " ".join([*texts, "The method chance is a map of random noise."])


_HELP = {
    "deletion": "Deletion: probability of the class as the strongest regions are "
    "removed first; lower is better.",
    "insertion": "Insertion: the same as they are restored first; higher is better.",
    "inside": "Inside: share of the evidence for the class that lies inside the mask.",
    "area": "Area: the mask's share of the image, the value that evenly spread "
    "evidence would have.",
    "pointing": "Pointing: how often the maximum of the map lies inside the mask.",
}


def map_sections(
    context: ReportContext, runs: Sequence[Run], *, most: int = MOST_RUNS
) -> dict[str, MapSection]:
    """The maps of runs by run_id; damaged records are listed as missing.

    Args:
        context: The records.
        runs: Runs that have a section, best first.
        most: How many are shown with their maps, the first that have any.
    """
    by_run: dict[str, MapSection] = {}
    for run in runs:
        folder = context.reports / FOLDER / run.run_id
        if not folder.is_dir():
            continue
        if sum(map_section.is_shown for map_section in by_run.values()) < most:
            by_run[run.run_id] = map_section(context, folder)
        else:
            by_run[run.run_id] = MapSection(f"{FOLDER}/{run.run_id}", is_shown=False)
    return by_run


def map_section(context: ReportContext, folder: Path) -> MapSection:
    """What is in the folder of one run."""
    missing = context.missing
    sheets = _read(
        folder / records.FILE, lambda path: records.load(path.parent), missing
    )
    notes = _read(folder / ROWS, _notes, missing)
    figures = _read(folder / FIGURES, _figures, missing)
    groups = _cards(sheets or [])
    return MapSection(
        f"{FOLDER}/{folder.name}",
        bool(groups or figures),
        notes or [],
        groups,
        *(figures or ([], [])),
    )


def _read(path: Path, read: Callable[[Path], T], missing: list[str]) -> T | None:
    """A record; None if there is none, or if it is damaged, which is listed."""
    try:
        return read(path)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        missing.append(f"{_named(path)}, which cannot be used ({error})")
        return None


@dataclass(frozen=True, kw_only=True)
class _Notes:
    """What is read of ``maps.json``."""

    notes: list[str]


@dataclass(frozen=True, kw_only=True)
class _Figure:
    """What is read of a row of ``faithfulness.json``."""

    name: str
    label: str
    method: str
    images: int
    value: MaybeNaN = math.nan
    low: MaybeNaN = math.nan
    high: MaybeNaN = math.nan


@dataclass(frozen=True, kw_only=True)
class _Figures:
    """All of them."""

    figures: list[_Figure]


def _notes(path: Path) -> list[str]:
    return from_json(_Notes, read_json(path)).notes


def _named(path: Path) -> str:
    return "/".join(path.parts[-3:])


def _figures(path: Path) -> tuple[list[str], list[FigureRow]]:
    """Names of the figures, and a row a class and method with a value for each."""
    figures = from_json(_Figures, {"figures": read_json(path)}).figures
    names = list(dict.fromkeys(one.name for one in figures))
    by_row: dict[tuple[str, str], dict[str, _Figure]] = {}
    for one in figures:
        by_row.setdefault((one.label, one.method), {})[one.name] = one
    rows = [
        FigureRow(
            *key,
            max(one.images for one in own.values()),
            [_estimate(own.get(name)) for name in names],
        )
        for key, own in by_row.items()
    ]
    return names, rows


def _estimate(one: _Figure | None) -> Estimate:
    if one is None:
        return Estimate(math.nan, math.nan, math.nan)
    return Estimate(one.value, one.low, one.high)


def _cards(sheets: Sequence[Sheet]) -> list[Cards]:
    """Mean maps, then the errors, or else the classes, as many as there is room for."""
    means = sorted((s for s in sheets if s.is_mean), key=lambda sheet: sheet.name)
    others = sorted((s for s in sheets if not s.is_mean), key=lambda sheet: sheet.name)
    errors = [sheet for sheet in others if sheet.name == ERRORS]
    cards = []
    for group in (means, errors or others):
        each = max(_MOST_CARDS // max(len(group), 1), 1)
        cards += [_of_sheet(sheet, each) for sheet in group[:_MOST_CARDS]]
    return cards


def _of_sheet(sheet: Sheet, most: int) -> Cards:
    """The most confident maps of a sheet, in its order."""
    strips = sheet.strips
    if not sheet.is_mean:
        confident = sorted(strips, key=_confidence, reverse=True)[:most]
        strips = [strip for strip in strips if strip in confident]
    title = sheet.title
    if sheet.is_mean:
        title = ": ".join([title, *sheet.scales])
    cards = [_card(sheet, strip[:_MOST_MAPS]) for strip in strips[:most]]
    more = len(sheet.strips) - len(cards)
    return Cards(title, _note(sheet, more), cards, sheet.is_mean)


def _confidence(strip: Sequence[ShownMap]) -> float:
    return max(one.probability for one in strip)


def _note(sheet: Sheet, more: int) -> str:
    scales = ", ".join(f"±{v:.2g} ({name})" for name, v in sheet.scales.items())
    note = f"Full colour at {scales}, {UNIT}."
    return note + (f" {more} more images are on the sheet." if more else "")


def _card(sheet: Sheet, strip: Sequence[ShownMap]) -> Card:
    image = strip[0].image
    if sheet.is_mean:
        text = f"{image.count} images, {image.part}"
        return Card(image.name, text, _mean_tiles(sheet, strip[0]))
    text = f"labelled {image.label}" if image.label else "no label"
    tiles = [_tile(image.picture, f"image {image.name}", "image")]
    for one in strip:
        picture = drawing.overlay(image.picture, one.density, sheet.scales[one.method])
        caption = f"{one.target} {one.probability:.2f}"
        alt = f"map for {caption} by {one.method} over image {image.name}"
        if len(sheet.scales) > 1:
            caption += f", {one.method}"
        tiles.append(_tile(picture, alt, caption))
    return Card(image.name, f"{text}, {image.part}", tiles)


def _mean_tiles(sheet: Sheet, one: ShownMap) -> list[Tile]:
    """The mean map of a class over the mean of its images, and alone."""
    picture = drawing.fitted(one.image.picture, MEAN_SIDE)
    limit = sheet.scales[one.method]
    alt = f"mean map for {one.target} of {one.image.count} images"
    return [
        _tile(
            drawing.overlay(picture, one.density, limit),
            f"{alt}, over their mean image",
            "over the mean image",
        ),
        _tile(drawing.plain(picture, one.density, limit), f"{alt}, alone", "map"),
    ]


def _tile(picture: "Image", alt: str, caption: str) -> Tile:
    file = io.BytesIO()
    picture.save(file, "WEBP", quality=_QUALITY, method=4)
    uri = "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode()
    return Tile(uri, alt, caption, *picture.size)
