"""Heads: the trained part on top of frozen features.

A head is a scikit-learn classifier. This page is the table of them; importing it
loads neither scikit-learn nor TensorFlow, and neither does `describe` for the
Keras heads (it needs scikit-learn only).
"""

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featcache.core.registry import Registry
from featcache.errors import HeadError, UsageError
from featcache.heads.files import RECORD

if TYPE_CHECKING:
    from featcache.heads.base import Head

__all__ = [
    "HEADS",
    "RECORD",
    "HeadRow",
    "describe",
    "load",
    "make",
    "read_own_record",
]


@dataclass(frozen=True)
class HeadRow:
    """One head.

    Attributes:
        path: ``module:Class`` of the head.
        kind: The library whose model file it writes: sklearn, xgboost or keras.
        about: One line for listings.
        tune: Whether it tunes itself unless told otherwise: where that is cheap.
        revision: Raised with any change that moves the head's numbers. With the name
            it is the head's identity in records and digests; ``path`` is not.
    """

    path: str
    kind: str
    about: str
    tune: bool = False
    revision: int = 1


def _keras(cls: str, about: str) -> HeadRow:
    return HeadRow(f"featcache.heads.networks:{cls}", "keras", about, revision=2)


def _sklearn(cls: str, about: str, *, tune: bool = False, revision: int = 1) -> HeadRow:
    return HeadRow(f"featcache.heads.linear:{cls}", "sklearn", about, tune, revision)


HEADS: Registry[HeadRow] = Registry(
    "head",
    {
        "softmax-untrained": _keras(
            "UntrainedSoftmax", "random softmax layer, no training: near chance"
        ),
        "softmax": _keras("Softmax", "one trained softmax layer"),
        "mlp": _keras("Mlp", "dense 500-200, ReLU"),
        "mlp-dropout": _keras("MlpDropout", "dense 500-dropout 0.5-200, ReLU"),
        "logreg": _sklearn("LogReg", "L2 logistic regression", tune=True, revision=3),
        "svm": _sklearn("Svm", "RBF support vector machine, calibrated", revision=2),
        "xgboost": HeadRow(
            "featcache.heads.boosted:XGBoost", "xgboost", "gradient-boosted trees"
        ),
        "majority": _sklearn(
            "Majority", "class shares of the training rows, a baseline"
        ),
    },
    hint="Or give a scikit-learn classifier as module:Class.",
)
# What wraps a foreign classifier, and what transforms the features of a head.
_WRAPPERS = {
    "custom": HeadRow("featcache.heads.custom:CustomHead", "sklearn", "module:Class"),
    "embedded": HeadRow("featcache.heads.embedded:Embedded", "sklearn", "a transform"),
}
NONE, TUNE = "none", "tune"
TRANSFORMS = (NONE, "sqrt", "l2", TUNE)


def make(
    name: str,
    *,
    seed: int = 0,
    tune: bool | None = None,
    blocks: Sequence[int] = (),
    transform: str = "none",
    pca: str | int = "none",
) -> "Head":
    """Builds an unfitted head.

    Args:
        name: A name of `HEADS`, or ``module:Class`` of a scikit-learn classifier.
        seed: Decides everything random in the head.
        tune: Whether it chooses its settings inside its training rows; None as its
            row says. Heads without settings to choose take no notice.
        blocks: Widths of the concatenated blocks of features, which then weigh the
            same; one block if empty.
        transform: Of the embeddings: "none", "sqrt", "l2" or "tune"; see
            ``embedded.Embedded``.
        pca: "none", a number of components, or "tune".

    Raises:
        UnknownNameError: The name is neither.
        UsageError: No such transform, or no number of components.
        HeadError: The class cannot serve as a head.
    """
    head = _plain(name, seed, tune, blocks)
    embedding = _embedding(transform, pca)
    if set(embedding.values()) == {NONE}:
        return head
    from featcache.heads.embedded import Embedded

    return Embedded(
        head=head,
        transformation=embedding["transform"],
        pca=embedding["pca"],
        blocks=tuple(blocks),
        seed=seed,
    )


def describe(
    name: str,
    *,
    seed: int = 0,
    tune: bool | None = None,
    blocks: Sequence[int] = (),
    transform: str = "none",
    pca: str | int = "none",
) -> dict[str, Any]:
    """The identity of a head for a run's digest: name, revision, every parameter.

    Of a head that tunes itself, also the settings that it tries. Of a transform, also
    its revision; of ``module:Class``, the revision is that of what wraps it.

    Args:
        name: See `make`, as all the others.
        seed: See `make`.
        tune: See `make`.
        blocks: See `make`.
        transform: See `make`.
        pca: See `make`.
    """
    name = HEADS.canonical(name)
    head = _plain(name, seed, tune, blocks)
    row = _WRAPPERS["custom"] if ":" in name else HEADS[name]
    identity = {
        "head": name,
        "revision": row.revision,
        "params": head.get_params(deep=False),
    }
    if head.tune and head.candidates:
        identity["candidates"] = list(head.candidates)
    embedding = _embedding(transform, pca)
    if set(embedding.values()) == {NONE}:
        return identity
    embedding["revision"] = _WRAPPERS["embedded"].revision
    if len(blocks) > 1:
        embedding["blocks"] = tuple(blocks)
    if TUNE in embedding.values():
        from featcache.heads.embedded import COMPONENTS, TRANSFORMS

        embedding["candidates"] = TRANSFORMS, COMPONENTS
    return identity | {"embedding": embedding}


def load(folder: Path, *, ours_alone: bool = False) -> "Head":
    """Reads the head that `Head.save` wrote into ``folder``.

    Args:
        folder: Of a run.
        ours_alone: Refuse heads of a class that is not featcache's own, for which
            other code would have to be imported.

    Raises:
        HeadError: There is none, it or a model file is not the one that was written,
            or is not safe to read.
    """
    from featcache.heads.files import damaged, read_record

    record = read_own_record(folder) if ours_alone else read_record(folder)
    try:
        return _restored(record, folder)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise damaged(folder / RECORD, error) from error


def read_own_record(folder: Path) -> dict[str, Any]:
    """The record of a saved head of featcache, whose files are as they were written.

    Raises:
        HeadError: It is damaged, or its class is not featcache's own.
    """
    from featcache.heads.files import damaged, read_record

    record = read_record(folder)
    try:
        inner = record["params"]["head"] if "embedding" in record else record
        name = inner["params"].get("path", inner["head"])
    except (KeyError, TypeError, AttributeError) as error:
        raise damaged(folder / RECORD, error) from error
    if inner["head"] not in HEADS:
        raise HeadError(
            f"a head of featcache: {', '.join(HEADS)}", str(name), "Train one."
        )
    return record


def _restored(record: dict[str, Any], folder: Path) -> "Head":
    name, params = record["head"], record["params"]
    if "embedding" in record:
        params = params | {"head": _restored(params["head"], folder)}
    row = _WRAPPERS.get(name) or HEADS[name]
    head: Head = _class(row.path)(**params)
    return head.restore(record, folder)


def _plain(name: str, seed: int, tune: bool | None, blocks: Sequence[int]) -> "Head":
    if ":" in name:
        from featcache.heads import estimators
        from featcache.heads.custom import CustomHead

        estimators.trust(name)
        custom = CustomHead(path=name, seed=seed)
        custom.build()  # a class that cannot serve is refused before any work is done
        head: Head = custom
    else:
        row = HEADS[HEADS.canonical(name)]
        head = _class(row.path)(seed=seed)
        if "tune" in head.get_params():
            head.set_params(tune=row.tune if tune is None else tune)
    if len(blocks) > 1 and "scale" in head.get_params():
        head.set_params(scale=tuple(blocks))
    return head


def _embedding(transform: str, pca: str | int) -> dict[str, Any]:
    """Both, checked; a number of components as a number."""
    if transform not in TRANSFORMS:
        raise UsageError(
            f"a transform: {', '.join(TRANSFORMS)}",
            repr(transform),
            "Choose one of these.",
        )
    if pca in (NONE, TUNE):
        return {"transform": transform, "pca": pca}
    if not str(pca).isdecimal() or int(pca) < 1:
        raise UsageError(
            "none, tune, or at least 1 component", repr(pca), "Try `pca='tune'`."
        )
    return {"transform": transform, "pca": int(pca)}


def _class(path: str) -> Any:
    module, _, cls = path.partition(":")
    return getattr(importlib.import_module(module), cls)
