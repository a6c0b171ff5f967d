"""`Embedder`: a frozen backbone as a transformer of scikit-learn, with a cache."""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from os import fspath
from os.path import abspath
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
from PIL import Image
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.exceptions import NotFittedError

from featcache import backbones
from featcache.api.progress import show
from featcache.api.words import cache_folder
from featcache.backbones import FEATUREWISE, Network
from featcache.commands.extract import extract, find_store
from featcache.core.io import lock
from featcache.core.progress import Reporter
from featcache.core.scratch import scratch_folder
from featcache.core.text import some
from featcache.dataset import images
from featcache.dataset.manifest import COLUMNS, OK, Manifest, Settings
from featcache.dataset.sources.pictures import ImageSource, image_source
from featcache.errors import StoreError, UnreadableImageError, UsageError
from featcache.features import Block, store

FOLDER = ".embedder"  # beside the datasets of a cache; no dataset has such a name
DRIFT_IMAGES = 8  # stored images that are computed again when libraries have changed


class Embedder(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Turns images into the embeddings of a frozen backbone.

    There is nothing to fit. An image is identified by its content: if any earlier call,
    another process, or ``featcache extract`` embedded it under the same contract, its
    embedding is read from the cache, and no network is built or run.

    Args:
        backbone: A name such as "densenet121", or the path of a ``.keras`` file.
        weights: "imagenet", "random", or a file of weights.
        preprocess: "imagenet" is the scaling that belongs to the backbone; else
            "torch", "caffe", "tf" or "none".
        input_size: Side of the input in pixels; by default the backbone's own.
        taps: Inner layers to append to the embedding: "none", "default" (the ends of
            the blocks), or names with commas between; "features:grid2" and the like are
            poolings of the last map.
        engine: "auto", "tensorflow" or "openvino".
        dtype: "float32", or "float16" to store half the bytes.
        batch_size: Images in one pass.
        seed: Of random weights.
        cache: The cache folder; by default ``$FEATCACHE_CACHE``, else ``cache``.
        progress: Whether to show a bar while a network runs; by default in notebooks
            and terminals.
    """

    def __init__(
        self,
        backbone: str | Path = "densenet121",
        *,
        weights: str | Path = "imagenet",
        preprocess: str = "imagenet",
        input_size: int | None = None,
        taps: str = "none",
        engine: str = "auto",
        dtype: str = "float32",
        batch_size: int = 32,
        seed: int = 0,
        cache: str | Path | None = None,
        progress: bool | None = None,
    ) -> None:
        self.backbone = backbone
        self.weights = weights
        self.preprocess = preprocess
        self.input_size = input_size
        self.taps = taps
        self.engine = engine
        self.dtype = dtype
        self.batch_size = batch_size
        self.seed = seed
        self.cache = cache
        self.progress = progress

    def fit(self, X: Any, y: Any = None) -> Self:
        """Checks the arguments; there is nothing to learn.

        Raises:
            FeatcacheError: There is no such backbone, or not with these arguments.
        """
        self._network()
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Embeds images.

        Args:
            X: N images in any mixture: paths of files, pictures of Pillow, or arrays
                (H, W) or (H, W, 3) of uint8; a list, an array or a column of a table.

        Returns:
            (N, D) float32 in the order of ``X``: the embedding, then the taps.

        Raises:
            UnreadableImageError: An image cannot be read; names it. The others are
                kept, so that a second call runs no network for them.
            StoreError: The cache is damaged, or the disk is full.
            WeightsError: Weights cannot be had.
        """
        network = self._network()
        inputs = [image_source(item, number) for number, item in enumerate(_items(X))]
        with ThreadPoolExecutor() as pool:
            ids = list(pool.map(lambda one: images.content_id(one.read()), inputs))
        if self._missing(network, ids):
            home = self._home
            with lock(home / ".embedder.lock", f"the store in {home}", timeout=-1):
                # Another process may have embedded them while this one waited.
                if missing := self._missing(network, ids):
                    source_of = dict(zip(ids, inputs, strict=True))
                    self._extract(network, missing, source_of)
        return self._read(network, ids)

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Names of the D columns, such as ``densenet121_0``.

        Raises:
            NotFittedError: Nothing has been embedded yet, so that D is not known.
        """
        network = self._network()
        for path in self._stores(network):
            dims = store.open_store(path).dims
            names = self._matrices(network)
            if all(name in dims for name in names):
                return np.array(
                    [
                        f"{network.name if name == store.FEATURES else name}_{column}"
                        for name in names
                        for column in range(dims[name])
                    ],
                    dtype=object,
                )
        raise NotFittedError(
            f"The width of {network.name} is known once it has embedded an image: "
            "call transform first."
        )

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.requires_fit = False
        tags.no_validation = True
        tags.input_tags.two_d_array = False
        tags.input_tags.three_d_array = True
        tags.input_tags.string = True
        tags.transformer_tags.preserves_dtype = []
        return tags

    def __sklearn_is_fitted__(self) -> bool:
        return True

    @property
    def _home(self) -> Path:
        return cache_folder(self.cache) / FOLDER

    def _network(self) -> Network:
        if self.preprocess == FEATUREWISE:
            raise UsageError(
                "a `preprocess` that needs no other images",
                repr(FEATUREWISE),
                "It depends on the training images. Use `featcache.extract` instead.",
            )
        return backbones.resolve(
            fspath(self.backbone),
            fspath(self.weights),
            preprocess=self.preprocess,
            input_size=self.input_size,
            seed=self.seed,
        )

    def _matrices(self, network: Network) -> list[str]:
        """Names of the matrices whose columns are put side by side."""
        if self.taps == "none" or network.is_baseline:
            return [store.FEATURES]
        named = network.taps if self.taps == "default" else self.taps.split(",")
        return [store.FEATURES, *(name.strip() for name in named)]

    def _stores(self, network: Network) -> list[Path]:
        """The stores of this contract: the embedder's own first, then all datasets'."""
        pattern = f"*/features/{network.name}-{network.weights}-*.h5"
        folders = {path.parent.parent for path in self._home.parent.glob(pattern)}
        paths = [find_store(_dataset(self._home, []), network, dtype=self.dtype)]
        for folder in sorted(folders - {self._home}):
            # One that is damaged is its own dataset's affair.
            with suppress(StoreError):
                dataset = _dataset(folder, [])
                paths.append(find_store(dataset, network, dtype=self.dtype))
        return [path for path in paths if path]

    def _missing(self, network: Network, ids: Sequence[str]) -> list[str]:
        """The images, each once, that no store has whole."""
        missing = dict.fromkeys(ids)
        for path in self._stores(network):
            rows = _whole(path, lambda p: self._rows(store.open_store(p), network))
            missing = {one: None for one in missing if one not in rows}
        return list(missing)

    def _rows(self, opened: store.Store, network: Network) -> dict[str, int]:
        """By image_id, the row of its plain view, where all matrices have it."""
        keys = opened.keys
        plain = (keys["view"] == 0) & (keys["policy"] == store.NO_POLICY)
        whole = plain.to_numpy(bool, copy=True)
        for name in self._matrices(network):
            whole &= opened.has(name)
        return dict(
            zip(keys.loc[whole, "image_id"], np.flatnonzero(whole), strict=True)
        )

    def _extract(
        self, network: Network, missing: list[str], source_of: dict[str, ImageSource]
    ) -> None:
        """Embeds images into the embedder's own store, by the command's pipeline."""
        own = find_store(_dataset(self._home, []), network, dtype=self.dtype)
        stored = self._rows(store.open_store(own), network) if own else {}
        again = [image_id for image_id in source_of if image_id in stored]
        with scratch_folder() as temp:
            files = [
                (image_id, _file(source_of[image_id], temp / f"{image_id}.ppm"))
                for image_id in [*missing, *again[:DRIFT_IMAGES]]
            ]
            with show(self.progress) as reporter:
                failures = self._run(network, files, reporter)
        if failures:
            raise UnreadableImageError(
                "images",
                some([f"{path} ({reason})" for path, reason in failures], 3),
                "Replace or leave out these files; the other images are kept in the "
                "cache.",
            )

    def _run(
        self, network: Network, files: list[tuple[str, str]], reporter: Reporter
    ) -> list[tuple[str, str]]:
        (result,) = extract(
            _dataset(self._home, files),
            [network],
            taps=self.taps,
            engine=self.engine,
            dtype=self.dtype,
            batch_size=self.batch_size,
            max_bad=1.0,
            reporter=reporter,
        )
        return result.failures

    def _read(self, network: Network, ids: Sequence[str]) -> np.ndarray:
        """Gathers the rows of images that are all stored, (N, D) float32."""
        distinct = list(dict.fromkeys(ids))
        X, pending = None, np.ones(len(distinct), bool)
        for path in self._stores(network):
            block = _whole(path, partial(self._gather, network, distinct, pending))
            if block is None:
                continue
            at, values = block
            if X is None:
                X = np.empty((len(distinct), values.shape[1]), np.float32)
            X[at] = values
            pending[at] = False
        if X is None or pending.any():
            raise StoreError(
                f"the embeddings of {network.name} just stored in {self._home}",
                f"none of {int(pending.sum())} of {len(distinct)} images",
                "Another program deletes files there. Call transform again.",
            )
        row_of = {image_id: row for row, image_id in enumerate(distinct)}
        return X[[row_of[image_id] for image_id in ids]]

    def _gather(
        self, network: Network, ids: Sequence[str], pending: np.ndarray, path: Path
    ) -> tuple[list[int], np.ndarray] | None:
        """Which of the pending images a store has, and their rows; None without any."""
        opened = store.open_store(path)
        row_of = self._rows(opened, network)
        at = [i for i, one in enumerate(ids) if pending[i] and one in row_of]
        if not at:
            return None
        rows = np.array([row_of[ids[i]] for i in at])
        blocks = [Block(opened, name, rows) for name in self._matrices(network)]
        values = [np.empty((len(at), block.dim), np.float32) for block in blocks]
        for block, out in zip(blocks, values, strict=True):
            block.read_into(out)
        return at, np.concatenate(values, axis=1)


def _whole(path: Path, read: Callable[[Path], Any]) -> Any:
    """Reads a store, and once more where another process has published meanwhile."""
    while True:
        before = path.stat().st_mtime_ns
        try:
            return read(path)
        except (StoreError, ValueError):
            if path.stat().st_mtime_ns == before:
                raise


def _dataset(folder: Path, files: Sequence[tuple[str, str]]) -> Manifest:
    """Files as a dataset of usable images, which is never written."""
    table = pd.DataFrame("", index=range(len(files)), columns=list(COLUMNS))
    table["image_id"] = [image_id for image_id, _ in files]
    table["path"] = [path for _, path in files]
    table["status"] = OK
    root = Path(abspath(folder)).anchor  # the paths are absolute
    return Manifest(folder, Settings(root, root, "image"), table)


def _file(source: ImageSource, new: Path) -> str:
    """The file of an image; a new one for what was given as pixels."""
    if source.path is not None:
        return str(source.path)
    new.write_bytes(source.read())
    return str(new)


def _items(X: Any) -> list[Any]:
    """The images of what a user or a pipeline passes on.

    Raises:
        UsageError: It is no sequence of images.
    """
    if hasattr(X, "to_numpy"):
        X = X.to_numpy()
    if isinstance(X, np.ndarray) and X.ndim == 2 and X.shape[1] == 1:
        X = X[:, 0]  # one column of a table
    single = isinstance(X, str | bytes | Path | Image.Image) or (
        isinstance(X, np.ndarray) and X.ndim == 3 and X.shape[2] == 3
    )
    if single or not isinstance(X, Iterable):
        raise UsageError(
            "a list of paths, pictures or arrays of pixels",
            f"one {type(X).__name__}",
            "Put it into a list: transform([image]).",
        )
    items = list(X)
    if not items:
        raise UsageError("at least one image", "an empty list", "Name some files.")
    return items
