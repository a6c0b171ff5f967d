"""A run as a model: its networks and the head on top."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from featcache import heads
from featcache.backbones.pooling import Pooling
from featcache.commands.explain import finetuned, networks
from featcache.commands.explain.attribution import margins
from featcache.commands.explain.finetuned import FinetunedHead, FinetunedNet, Renderer
from featcache.commands.explain.frame import Frame
from featcache.commands.explain.networks import Net
from featcache.dataset.views import Resize
from featcache.deploy.finetuned import is_finetuned
from featcache.errors import RunError
from featcache.evaluation import runs
from featcache.evaluation.runs import Run

if TYPE_CHECKING:
    from featcache.heads.base import Head

# From a way of resizing to pixels (N, S, S, 3) rendered so.
Rendered = Mapping[Resize, np.ndarray]


@dataclass(frozen=True)
class Block:
    """One block of the head's columns.

    Attributes:
        name: Backbone, input size and tap, for people.
        columns: Its columns of the features.
        pooling: How its features are pooled from their maps.
        resize: What the network sees of an image.
        has_places: Whether its maps show places; those of a class token are one cell.
    """

    name: str
    columns: slice
    pooling: Pooling
    resize: Resize
    has_places: bool = True


@dataclass(frozen=True, eq=False)
class Model:
    """A run's saved head, refitted on all of its training part, and its networks.

    Attributes:
        run: The run.
        head: The head.
        nets: The networks, in the order of the head's columns.
    """

    run: Run
    head: "Head | FinetunedHead"
    nets: "Sequence[Net | FinetunedNet]"

    @property
    def classes(self) -> list[str]:
        """Labels that the head tells apart, in the order of its columns."""
        return [self.run.classes[code] for code in self.head.classes_]

    @property
    def resizes(self) -> list[Resize]:
        """How its networks take images, each way once."""
        return list(dict.fromkeys(net.resize for net in self.nets))

    def frame(self, size: tuple[int, int]) -> Frame:
        """All that its networks see of an image of this width and height."""
        return Frame.of(self.resizes, size)

    @property
    def blocks(self) -> list[Block]:
        """What its columns are."""
        blocks, start = [], 0
        for net in self.nets:
            for part in net.parts:
                text = f"{net.name}@{net.resize.side} {part.name}"
                columns = slice(start, start + part.width)
                about = (part.pooling, net.resize, part.has_places)
                blocks.append(Block(text, columns, *about))
                start += part.width
        return blocks

    @cached_property
    def has_maps(self) -> bool:
        """Whether every feature comes of a map."""
        return all(net.has_maps for net in self.nets)

    def features(self, rendered: Rendered) -> np.ndarray:
        """The head's features (N, D) of rendered pixels."""
        return np.concatenate([n.embed(rendered[n.resize]) for n in self.nets], axis=1)

    def maps(self, rendered: Rendered) -> list[np.ndarray]:
        """The maps (N, h, w, c) of each block."""
        return [maps for net in self.nets for maps in net.see(rendered[net.resize])]

    def pooled(self, maps: Sequence[np.ndarray]) -> np.ndarray:
        """The head's features (N, D) of the maps of each block."""
        parts = [block.pooling(A) for block, A in zip(self.blocks, maps, strict=True)]
        return np.concatenate(parts, axis=1, dtype=np.float32)

    def proba(self, X: np.ndarray) -> np.ndarray:
        """The head's own probabilities (N, C), before any calibration."""
        return self.head.predict_proba(X)

    def margins(self, X: np.ndarray) -> np.ndarray:
        """Their margins (N, C)."""
        return margins(self.proba(X))

    @cached_property
    def background(self) -> np.ndarray:
        """Mean (D,) of the plain training images' features."""
        table = self.run.table
        ids = table.loc[table["split"] == runs.TRAIN, "image_id"].tolist()
        return np.concatenate([net.mean(ids) for net in self.nets])


def of_run(
    run: Run,
    folder: Path,
    *,
    files: Sequence[Path] = (),
    pixels: Renderer | None = None,
) -> Model:
    """Opens a run's head and networks.

    Args:
        run: The run.
        folder: ``cache/<dataset>``.
        files: Files of weights to look in.
        pixels: From images and a size to their plain views; for runs without a store.

    Raises:
        RunError: It failed, or has no head of its own.
        StoreError: One of its stores is gone.
        WeightsError: One of its networks cannot be found.
    """
    if run.failed:
        raise RunError(
            "a run with a head to explain",
            f"{run.run_id}, which failed: {run.record.reason}",
            "Choose another run.",
        )
    if is_finetuned(run):
        head, net = finetuned.of_run(run, pixels)
        return Model(run, head, [net])
    nets = networks.of_run(run, folder, files=files)
    loaded = heads.load(run.file(heads.RECORD).parent)
    width = sum(part.width for net in nets for part in net.parts)
    if loaded.n_features_in_ != width:
        raise RunError(
            f"{loaded.n_features_in_} features for the head of {run.run_id}",
            f"{width} in its stores",
            "Train it again with `force=True`.",
        )
    return Model(run, loaded, nets)
