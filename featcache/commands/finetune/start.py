"""The head at the start: random, or that of a trained run folded into dense layers."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from sklearn.base import clone

from featcache import heads
from featcache.backbones import FEATUREWISE, Network, Preprocess
from featcache.core.command_lines import from_here
from featcache.core.parallel import side_by_side
from featcache.dataset import splits
from featcache.dataset.manifest import Manifest
from featcache.dataset.views import Policy
from featcache.errors import ContractError, HeadError, StoreError
from featcache.evaluation.runs import Run
from featcache.features import FeatureSet, store
from featcache.features.contract import FLOAT32, Contract
from featcache.heads.base import Head
from featcache.heads.linear import LogReg
from featcache.heads.networks import KerasHead

FOLDABLE = ("softmax", "mlp", "mlp-dropout", "logreg")


@dataclass(frozen=True, eq=False)
class InitialHead:
    """A head of dense layers.

    Attributes:
        units: Widths of the hidden layers, which have ReLU.
        dropout: Share dropped behind the first.
        taps: Inner layers that stand behind the embedding.
        weights: Kernel and bias of each layer; random if empty.
    """

    units: tuple[int, ...] = ()
    dropout: float = 0.0
    taps: tuple[str, ...] = ()
    weights: list[np.ndarray] = field(default_factory=list)

    @classmethod
    def fresh(cls, name: str) -> "InitialHead":
        """With random weights, of the shape that the cached head of a name has."""
        head: Any = heads.make(name)
        return cls(tuple(getattr(head, "units", ())), getattr(head, "dropout", 0.0))


def to_dense(head: Head, taps: Sequence[str] = ()) -> InitialHead:
    """A fitted head as dense layers on features that are not scaled.

    A layer on scaled features, ``(x - mean) / scale @ W + b``, is one on ``x`` with
    the kernel ``W / scale`` and the bias ``b - mean / scale @ W``.

    Raises:
        HeadError: It is none of dense layers.
    """
    layers, dropout = _dense(head)
    kernel, bias = layers[0]
    mean, scale = _scaling(head)
    layers[0] = kernel / scale[:, None], bias - (mean / scale) @ kernel
    weights = [part.astype(np.float32) for layer in layers for part in layer]
    units = tuple(len(bias) for _, bias in layers[:-1])
    return InitialHead(units, dropout, tuple(taps), weights)


def _dense(head: Head) -> tuple[list[tuple[np.ndarray, np.ndarray]], float]:
    """Kernel and bias of each layer in float64, and the dropout."""
    if isinstance(head, LogReg):
        model = head.model_["classify"]
        kernel, bias = model.coef_.T, model.intercept_
        if len(bias) == 1:  # of two classes: the first has the logit 0
            kernel, bias = np.hstack([0 * kernel, kernel]), np.append(0, bias)
        return [(kernel, bias)], 0.0
    if isinstance(head, KerasHead):
        dense = [
            layer.get_weights()
            for layer in head.model_.layers
            if layer.name == "softmax" or layer.name.startswith("dense_")
        ]
        pairs = [(w.astype(np.float64), b.astype(np.float64)) for w, b in dense]
        return pairs, float(getattr(head, "dropout", 0.0))
    raise HeadError(
        f"a head of dense layers: {', '.join(FOLDABLE)}",
        head.name,
        "Start from another run.",
    )


def _scaling(head: Head) -> tuple[np.ndarray, np.ndarray]:
    """Mean and scale, (D,) each."""
    if isinstance(head, LogReg):
        scaler = head.model_["scale"]
        return scaler.mean_, scaler.scale_
    layer = head.model_.get_layer("scale")
    mean, variance = np.ravel(layer.mean), np.ravel(layer.variance)
    return mean.astype(np.float64), np.sqrt(variance.astype(np.float64))


@dataclass(frozen=True, eq=False)
class SourceRun:
    """A run whose head is started from.

    Attributes:
        run: The run.
        head: Its head, as it was saved.
        taps: Inner layers that it sees beside the embedding.
        dataset: Its images.
        feature_store: The store of its features.
    """

    run: Run
    head: Head
    taps: tuple[str, ...]
    dataset: Manifest
    feature_store: store.Store

    @cached_property
    def features(self) -> np.ndarray:
        """(N, V, D) features of the dataset's usable images, plain view first."""
        record = self.run.record
        selection = FeatureSet((self.feature_store,)).select(
            self.dataset,
            views=record.views,
            policy=Policy.of(record.policy) if record.policy else None,
            taps=self.taps,
        )
        return selection.read().reshape(-1, record.views + 1, sum(selection.dims))

    def initial_head(
        self, rows: np.ndarray, y: np.ndarray, groups: np.ndarray
    ) -> InitialHead:
        """The head fitted anew on the features of some images alone.

        What is judged on other images must not have seen them: the saved head has.

        Args:
            rows: Rows of the images to fit on; all of the run's training part gives
                the saved head.
            y: (N,) class indices of all images.
            groups: (N,) groups of all images.

        Raises:
            HeadError: It cannot be fitted.
        """
        fold_of = self.run.table.set_index("image_id")["fold"]
        own = fold_of.loc[self.dataset.ok["image_id"]].to_numpy() != splits.TEST
        if np.array_equal(np.flatnonzero(own), np.sort(rows)):
            return to_dense(self.head, self.taps)
        V = self.features.shape[1]
        arguments = {
            "head": clone(self.head),
            "X": self.features[rows].reshape(-1, self.features.shape[2]),
            "y": np.repeat(y[rows], V),
            "groups": np.repeat(groups[rows], V),
            "taps": self.taps,
        }
        # In a process of one thread, as heads are trained: TensorFlow's number of
        # threads would reach the sums.
        ((_, result),) = side_by_side(_fit_to_dense, [arguments], 1)
        if isinstance(result, str):
            raise HeadError(
                f"the head of {self.run.run_id} to be fitted again",
                result,
                "Start from another run.",
            )
        return result


def _fit_to_dense(
    head: Head, X: np.ndarray, y: np.ndarray, groups: np.ndarray, taps: tuple[str, ...]
) -> InitialHead:
    return to_dense(head.fit(X, y, groups=groups), taps)


def open_source_run(
    run: Run, dataset: Manifest, network: Network, *, evaluation_id: str
) -> SourceRun:
    """Opens a run to start from, and refuses one that does not fit.

    Raises:
        HeadError: Its head is none of dense layers on plain embeddings, or it was
            judged otherwise.
        ContractError: Its features are not those of this network.
        StoreError: Its features are gone.
    """
    _refuse(run, dataset, evaluation_id)
    blocks = run.record.features
    if len({block.store for block in blocks}) > 1:
        raise HeadError(
            "a head trained on features of one network at one input size",
            f"{run.run_id}, on {run.record.backbone}",
            "Start from a run that uses only one feature set.",
        )
    feature_store = store.open_store(
        dataset.folder / "features" / (blocks[0].store or "")
    )
    _refuse_contract(feature_store, network)
    taps = tuple(block.tap for block in blocks if block.tap)
    head = heads.load(run.file(heads.RECORD).parent)
    return SourceRun(run, head, taps, dataset, feature_store)


def _refuse(run: Run, dataset: Manifest, evaluation_id: str) -> None:
    record = run.record
    expected = f"`init_head` to name a run whose head is {' or '.join(FOLDABLE)}"
    if run.failed or record.head not in FOLDABLE:
        got = "failed" if run.failed else record.head
        raise HeadError(expected, f"{run.run_id} ({got})", "Start from another run.")
    embedding = record.head_is.embedding
    if embedding:
        transforms = f"transform {embedding.transform}, pca {embedding.pca}"
        raise HeadError(
            f"{expected}, trained on untransformed features",
            f"{run.run_id}, whose features are transformed ({transforms})",
            "Train the head with `transform='none'` and `pca='none'`.",
        )
    regions = {block.region for block in record.features if block.region}
    if regions:
        raise HeadError(
            f"{expected}, trained on features of whole images",
            f"{run.run_id}, on region {', '.join(sorted(regions))}",
            "Start from another run.",
        )
    if run.classes != dataset.classes:
        raise HeadError(
            f"a head for the classes {', '.join(dataset.classes)}",
            f"{run.run_id}, for {', '.join(run.classes)}",
            "Use a head trained on the same classes.",
        )
    if record.evaluation_id != evaluation_id:
        raise HeadError(
            "a head that was evaluated on the same images, groups and folds",
            f"{run.run_id}, on split {record.split.name}",
            "Use the `folds`, `test_size`, `seed`, `split`, `exclude` and `group_by` "
            "of that run, or train the head on this split.",
        )


def _refuse_contract(stored: store.Store, network: Network) -> None:
    contract = stored.header.contract.without_measured
    expected = Contract.of(network, dtype=contract.dtype or FLOAT32)
    have, want = contract.to_json(), expected.to_json()
    differ = [
        f"{name} {have.get(name)!r}, not {want.get(name)!r}"
        for name in contract.differences(expected)
    ]
    if stored.header.weights != network.weights:
        differ.append(f"weights {stored.header.weights!r}, not {network.weights!r}")
    if differ:
        raise _other_contract(stored, "; ".join(differ))


def refuse_weights(source_run: SourceRun, digest: str) -> None:
    """Refuses features of other weights than those that were built.

    Args:
        source_run: The run that is started from.
        digest: ``weights_digest`` of the network.

    Raises:
        ContractError: They are of others.
    """
    stored = source_run.feature_store.header.contract.weights_digest
    if stored != digest:
        raise _other_contract(
            source_run.feature_store, f"weights {stored}, not {digest}"
        )


def _other_contract(stored: store.Store, differ: str) -> ContractError:
    return ContractError(
        "a head trained on features of the network to fine-tune",
        f"features in {stored.path.name}, which have {differ}",
        "Use the backbone, `weights`, `preprocess` and `input_size` of that store, or "
        "train a head on features of this network.",
    )


def standardising(dataset: Manifest, network: Network, split: str) -> Preprocess | None:
    """The statistics of "featurewise" preprocessing, from the features' store.

    Raises:
        StoreError: There is no such store, or it was standardised on other images.
    """
    if network.preprocess != FEATUREWISE:
        return None
    key = network.name, network.input_size
    for path in sorted((dataset.folder / "features").glob("*.h5")):
        contract = store.open_store(path).header.contract
        statistics = contract.statistics
        is_same = (contract.backbone, contract.input_size) == key
        if statistics and statistics.split == split and is_same:
            return Preprocess.from_statistics(statistics)
    words = ["featcache", "extract", "--dataset", dataset.dataset, "-b"]
    file = from_here(network.file) if network.file else ""
    words += [network.name if network.row else file]
    words += ["--weights", file] if network.row and file else []
    words += ["--preprocess", FEATUREWISE, "--input-size", str(network.input_size)]
    raise StoreError(
        f"statistics of the training images of split {split}, which "
        "`preprocess='featurewise'` needs",
        f"no such features of {network.name} at {network.input_size} px",
        f"Run: {shlex.join(words)}",
    )
