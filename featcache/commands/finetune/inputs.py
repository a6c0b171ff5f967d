"""Images for training: decoded and rendered anew each epoch, a few batches ahead."""

import gc
import os
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from featcache.commands.finetune.settings import BALANCED, FinetuneSettings
from featcache.core.tf import as_written, tensorflow
from featcache.dataset import rendering
from featcache.dataset.manifest import Manifest
from featcache.dataset.views import Policy, Resize
from featcache.errors import FeatcacheError, UsageError

_AHEAD = 2  # batches


@dataclass(frozen=True, eq=False)
class Images:
    """A dataset's usable images as pixels.

    Attributes:
        dataset: Whose images; unreadable ones and duplicates have another status.
        resize: How images are brought to the size of the network.
        policy: The recipe of views 1 and up.
        batch_size: Images in one pass.
        broken: The error of an image that could not be read.
    """

    dataset: Manifest
    resize: Resize
    policy: Policy
    batch_size: int
    broken: list[FeatcacheError] = field(default_factory=list)

    @cached_property
    def _files(self) -> list[tuple[str, str]]:
        ok = self.dataset.ok
        return list(zip(ok["path"], ok["image_id"], strict=True))

    def pixels(self, row: int, view: int) -> np.ndarray:
        """Renders a view of the image in a row of ``dataset.ok``.

        Returns:
            (side, side, 3) uint8, RGB: what ``extract`` gives a network of that view.

        Raises:
            UnreadableImageError: The file is gone, changed, or no picture.
        """
        path, image_id = self._files[row]
        image = rendering.read(self.dataset.root, path, image_id).image
        return rendering.cutter(image, self.policy, image_id)(self.resize, view)

    def batches(self, rows: np.ndarray, view: int, *targets: np.ndarray) -> Any:
        """A ``tf.data.Dataset`` of batches, in the order of the rows.

        Args:
            rows: (n,) rows of ``dataset.ok``.
            view: Which view of them.
            targets: Arrays (n, ...) that go with the pixels.

        Returns:
            Of each batch the pixels (b, side, side, 3) uint8, alone or with targets.
        """
        tf = tensorflow()

        def load(row: Any, *others: Any) -> Any:
            pixels = tf.numpy_function(
                lambda r: self._load(int(r), view), [row], tf.uint8
            )
            pixels = tf.ensure_shape(pixels, (*[self.resize.side] * 2, 3))
            return (pixels, *others) if others else pixels

        rows_and_targets = tf.data.Dataset.from_tensor_slices((rows, *targets))
        rows_and_targets = rows_and_targets.map(
            as_written(load), num_parallel_calls=min(os.cpu_count() or 1, 16)
        )
        return rows_and_targets.batch(self.batch_size).prefetch(_AHEAD)

    def _load(self, row: int, view: int) -> np.ndarray:
        try:
            return np.ascontiguousarray(self.pixels(row, view))
        except FeatcacheError as error:
            self.broken.append(error)
            raise

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Turns TensorFlow's errors into ours, and ends the reading after any.

        Raises:
            UnreadableImageError: An image cannot be read any more.
            UsageError: A batch does not fit into memory.
        """
        try:
            yield
        except BaseException as error:
            # The iterator of the epoch waits for images that are being read. Where
            # it lives as long as the interpreter, it would wait for ever: the threads
            # that read end without an answer when Python does.
            traceback.clear_frames(error.__traceback__)
            gc.collect()
            if ours := self._in_our_words(error):
                raise ours from error
            raise

    def _in_our_words(self, error: BaseException) -> FeatcacheError | None:
        if isinstance(error, MemoryError):
            return self._too_large()
        if not isinstance(error, tensorflow().errors.OpError):
            return None
        if self.broken:
            return self.broken[0]
        # CUDA's own errors of memory come as others than ResourceExhausted.
        exhausted = isinstance(error, tensorflow().errors.ResourceExhaustedError)
        if exhausted or "out of memory" in str(error).lower():
            return self._too_large()
        return None

    def _too_large(self) -> UsageError:
        return UsageError(
            f"a batch of {self.batch_size} images of {self.resize.side} px does not "
            "fit into memory",
            f"Lower `batch_size` (now {self.batch_size}) or `input_size`, or "
            "unfreeze fewer blocks; finished training is kept.",
        )


def order(count: int, seed: int, epoch: int) -> np.ndarray:
    """The order (count,) in which an epoch takes its rows, from (seed, epoch) alone."""
    # Raw bits, because NumPy promises only these to stay the same (NEP 19).
    raw = np.random.PCG64([seed, epoch]).random_raw(count)
    return np.argsort(raw, kind="stable")


@dataclass(frozen=True, eq=False)
class Data:
    """What one network is trained and validated on.

    Attributes:
        images: Where the pixels come from.
        codes: (N,) class indices of all images.
        fit: Rows to train on.
        stop_by: Rows to stop early by; may be empty.
        n_classes: C.
    """

    images: Images
    codes: np.ndarray
    fit: np.ndarray
    stop_by: np.ndarray
    n_classes: int

    @property
    def steps(self) -> int:
        """Batches of an epoch."""
        return -(-len(self.fit) // self.images.batch_size)

    def epoch(self, epoch: int, settings: FinetuneSettings) -> Any:
        """Batches of an epoch, from 1: pixels, one-hot labels, weights."""
        rows = self.fit[order(len(self.fit), settings.seed, epoch)]
        one_hot = np.eye(self.n_classes, dtype=np.float32)[self.codes[rows]]
        weights = self.weights(settings)[self.codes[rows]]
        return self.images.batches(rows, settings.view(epoch), one_hot, weights)

    def weights(self, settings: FinetuneSettings) -> np.ndarray:
        """Weight of an image by its class, (C,); 1 on average."""
        if settings.class_weight != BALANCED:
            return np.ones(self.n_classes, np.float32)
        counts = np.bincount(self.codes[self.fit], minlength=self.n_classes)
        return np.asarray(len(self.fit) / self.n_classes / counts, np.float32)
