"""Where a run looks: what ``featcache explain`` drew and measured, made small."""

import base64
import io
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from featcache.evaluation.runs import Run
from featcache.report.heatmaps.layout import IMAGE, OVERLAY, Panel, Plan, Strip, plan_of
from featcache.report.heatmaps.sheets import FIGURES, ROWS, UNIT
from featcache.report.html.context import Material
from featcache.report.html.scoring import Estimate

if TYPE_CHECKING:
    from PIL.Image import Image

    Sheet = tuple[str, Image, Plan]

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
    """The pictures of a class or an image, and what stands above them."""

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
class Look:
    """What the page shows of a run's maps; see the template.

    Attributes:
        folder: Where everything is, below the dataset's reports.
        shown: Whether there is more than the folder's name.
        notes: What a reader of the maps has to know.
        groups: Mean maps first.
        names: Of the figures, in the order of their values.
        figures: One row a class and method.
    """

    folder: str
    shown: bool = True
    notes: list[str] = field(default_factory=list)
    groups: list[Cards] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    figures: list[FigureRow] = field(default_factory=list)

    @property
    def help(self) -> str:
        """What the figures are."""
        kinds = dict.fromkeys(name.split(" ")[0] for name in self.names)
        told = [_HELP[kind] for kind in kinds if kind in _HELP]
        return " ".join([*told, "The method chance is a map of noise."])


_HELP = {
    "deletion": "Deletion: the probability of the class while the strongest places "
    "are covered first; lower is better.",
    "insertion": "Insertion: while they are uncovered first; higher is better.",
    "inside": "Inside: the share of the evidence for the class that lies in the mask.",
    "area": "Area: the mask's share of the image, which evidence without a place "
    "would have.",
    "pointing": "Pointing: how often the strongest place lies in the mask.",
}


def looks(material: Material, shown: Sequence[Run]) -> dict[str, Look]:
    """What is known of where runs look, by run_id; what is broken is told.

    Args:
        material: The records.
        shown: Runs that have a section, best first; the first three that have maps
            are shown with them.
    """
    found: dict[str, Look] = {}
    for run in shown:
        folder = material.reports / FOLDER / run.run_id
        if not folder.is_dir():
            continue
        if sum(look.shown for look in found.values()) < MOST_RUNS:
            found[run.run_id] = look(material, folder)
        else:
            found[run.run_id] = Look(f"{FOLDER}/{run.run_id}", shown=False)
    return found


def look(material: Material, folder: Path) -> Look:
    """What is in the folder of one run."""
    lacking = material.lacking
    sheets = [s for path in _sheets(folder) if (s := _opened(path, lacking))]
    means = [sheet for sheet in sheets if sheet[0].startswith("mean-")]
    others = [sheet for sheet in sheets if not sheet[0].startswith("mean-")]
    groups = [*_cards(means, is_mean=True), *_cards(others, is_mean=False)]
    notes = _read(folder / ROWS, lambda found: list(map(str, found["notes"])), lacking)
    figures = _read(folder / FIGURES, _figures, lacking)
    return Look(
        f"{FOLDER}/{folder.name}",
        bool(groups or figures),
        notes or [],
        groups,
        *(figures or ([], [])),
    )


def _sheets(folder: Path) -> list[Path]:
    """Mean maps, and the errors, or else the classes."""
    errors = folder / "errors.png"
    others = [errors] if errors.is_file() else sorted(folder.glob("class-*.png"))
    return [*sorted(folder.glob("mean-*.png")), *others]


def _opened(path: Path, lacking: list[str]) -> "Sheet | None":
    from PIL import Image

    try:
        with Image.open(path) as image:
            plan = plan_of(image)
            return path.name, image.convert("RGB"), plan
    except (OSError, ValueError, SyntaxError) as error:
        lacking.append(f"{_named(path)}, which cannot be used ({error})")
        return None


def _read(path: Path, of: Callable[[Any], T], lacking: list[str]) -> T | None:
    """A record; None where there is none, or a broken one, which is told."""
    try:
        return of(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        lacking.append(f"{_named(path)}, which cannot be used ({error})")
        return None


def _named(path: Path) -> str:
    return "/".join(path.parts[-3:])


def _figures(found: list[dict[str, Any]]) -> tuple[list[str], list[FigureRow]]:
    """Names of the figures, and a row a class and method with a value for each."""
    names = list(dict.fromkeys(str(one["name"]) for one in found))
    by_row: dict[tuple[str, str], dict[str, dict[str, Any]]] = {}
    for one in found:
        key = str(one["label"]), str(one["method"])
        by_row.setdefault(key, {})[one["name"]] = one
    rows = [
        FigureRow(
            *key,
            max(int(one["images"]) for one in own.values()),
            [_estimate(own.get(name, {})) for name in names],
        )
        for key, own in by_row.items()
    ]
    return names, rows


def _estimate(one: dict[str, Any]) -> Estimate:
    found = (one.get(name) for name in ("value", "low", "high"))
    return Estimate(*(math.nan if v is None else float(v) for v in found))


def _cards(sheets: "Sequence[Sheet]", *, is_mean: bool) -> list[Cards]:
    """The strips of sheets, as many as there is room for."""
    each = max(_MOST_CARDS // max(len(sheets), 1), 1)
    found = []
    for name, image, plan in sheets[:_MOST_CARDS]:
        strips = _strongest(plan.strips, each)
        cards = [_card(image, strip, is_mean=is_mean) for strip in strips]
        if cards:
            note = _note(plan, len(plan.strips) - len(strips))
            found.append(Cards(_title(name, plan), note, cards, is_mean))
    return found


def _title(name: str, plan: Plan) -> str:
    if name.startswith("mean-"):
        return ": ".join([plan.title, *plan.scales])
    is_class = name.startswith("class-")
    return f"Images labelled {plan.title}" if is_class else plan.title


def _strongest(strips: Sequence[Strip], most: int) -> list[Strip]:
    """The surest maps, in the order of the sheet."""
    sure = sorted(strips, key=_sureness, reverse=True)[:most]
    return [strip for strip in strips if strip in sure]


def _sureness(strip: Strip) -> float:
    return max((panel.probability or 0.0 for panel in strip.panels), default=0.0)


def _note(plan: Plan, more: int) -> str:
    scales = ", ".join(f"±{v:.2g} ({name})" for name, v in plan.scales.items())
    told = f"Full colour at {scales}, {UNIT}."
    return told + (f" {more} more are on the sheet." if more else "")


def _card(image: "Image", strip: Strip, *, is_mean: bool) -> Card:
    maps = [panel for panel in strip.panels if panel.kind != IMAGE][:_MOST_MAPS]
    if is_mean:
        text, panels = f"{strip.images} images, {strip.part}", maps
    else:
        label = f"labelled {strip.label}" if strip.label else "no label known"
        text = f"{label}, {strip.part}"
        panels = [p for p in strip.panels if p.kind == IMAGE] + maps
    several = len({panel.method for panel in maps}) > 1
    tiles = [_tile(image, strip, panel, several=several) for panel in panels]
    return Card(strip.name, text, tiles)


def _tile(image: "Image", strip: Strip, panel: Panel, *, several: bool) -> Tile:
    cut, file = image.crop(panel.box), io.BytesIO()
    cut.save(file, "WEBP", quality=_QUALITY, method=4)
    uri = "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode()
    return Tile(uri, *_words(strip, panel, several=several), *cut.size)


def _words(strip: Strip, panel: Panel, *, several: bool) -> tuple[str, str]:
    """What a picture shows, and its caption."""
    if panel.kind == IMAGE:
        return f"image {strip.name}", "image"
    if panel.probability is None:
        on = "over their mean picture" if panel.kind == OVERLAY else "alone"
        words = f"mean map for {panel.label} of {strip.images} images, {on}"
        return words, "over the mean picture" if panel.kind == OVERLAY else "map"
    caption = f"{panel.label} {panel.probability:.2f}"
    words = f"map for {caption} by {panel.method} over image {strip.name}"
    return words, f"{caption}, {panel.method}" if several else caption
