"""What the Tab key offers: datasets, runs, backbones, stores, heads and metrics.

It runs at every press of the key, so it opens no record, imports nothing heavy, and
answers with nothing whatever goes wrong.
"""

import os
from collections.abc import Callable, Iterable
from pathlib import Path

from click import Context, Parameter
from click.shell_completion import CompletionItem

from featcache.core.command_lines import CACHE, CACHE_VARIABLE

Completer = Callable[[Context, Parameter, str], list[CompletionItem]]
Offer = Callable[[Context], Iterable[tuple[str, str]]]  # a word, and what it is
_DIGITS = 6  # of a short id
_METRICS = (
    "accuracy", "balanced_accuracy", "macro_f1", "auc", "log_loss", "brier", "ece",
)  # fmt: skip


def _completer(offer: Offer) -> Completer:
    """Those words of an offer that go on as the user began, in any capitals."""

    def complete(
        context: Context, parameter: Parameter, incomplete: str
    ) -> list[CompletionItem]:
        begun = incomplete.lower()
        try:
            return [
                CompletionItem(word, help=what or None)
                for word, what in offer(context)
                if word.lower().startswith(begun)
            ]
        except Exception:  # noqa: BLE001 - a shell must never see an error
            return []

    return complete


def _or_files(complete: Completer) -> Completer:
    """Those of a completer and, where it has none, files."""

    def either(
        context: Context, parameter: Parameter, incomplete: str
    ) -> list[CompletionItem]:
        files = [CompletionItem(incomplete, type="file")]
        return complete(context, parameter, incomplete) or files

    return either


def _folder(context: Context, name: str) -> Path:
    default = os.environ.get(CACHE_VARIABLE, name) if name == CACHE else name
    return Path(context.params.get(name) or default)


def _names(context: Context) -> list[str]:
    """Datasets that were scanned or have runs."""
    scanned = _folder(context, "cache").glob("*/manifest.csv")
    trained = _folder(context, "reports").glob("*/runs")
    return sorted({path.parent.name for path in (*scanned, *trained)})


def _datasets(context: Context) -> Iterable[tuple[str, str]]:
    return [(name, "") for name in _names(context)]


def _runs(context: Context) -> Iterable[tuple[str, str]]:
    """Short ids, then whole ids, of the runs of one dataset or of all."""
    named = context.params.get("dataset")
    ids = [
        folder.name
        for name in ([named] if named else _names(context))
        for folder in sorted((_folder(context, "reports") / name / "runs").glob("*/"))
        if not folder.name.startswith(".") and folder.is_dir()
    ]
    digits = [run_id.rpartition("-")[2] for run_id in ids]
    for run_id, own in zip(ids, digits, strict=True):
        yield _shortest(own, digits), run_id
    yield from ((run_id, "") for run_id in ids)


def _shortest(own: str, digits: list[str]) -> str:
    """The first digits that no other has, six or more; all where others have them."""
    starts = (own[:n] for n in range(_DIGITS, len(own)))
    return next(
        (s for s in starts if sum(other.startswith(s) for other in digits) == 1), own
    )


def _backbones(context: Context) -> Iterable[tuple[str, str]]:
    from featcache.backbones import BACKBONES, COLLECTIONS

    return [(name, "") for name in (*COLLECTIONS, *BACKBONES)]


def _features(context: Context) -> Iterable[tuple[str, str]]:
    """Backbones of the stores of a dataset, and the stores themselves."""
    named = context.params.get("dataset")
    stems = [
        path.stem
        for name in ([named] if named else _names(context))
        for path in sorted((_folder(context, "cache") / name / "features").glob("*.h5"))
    ]
    plain = dict.fromkeys(stem.rsplit("-", 2)[0] for stem in stems)
    return [(word, "") for word in dict.fromkeys(["all", *plain, *stems])]


def _heads(context: Context) -> Iterable[tuple[str, str]]:
    from featcache.heads import HEADS

    return [("all", ""), *((name, row.about) for name, row in HEADS.items())]


complete_datasets = _completer(_datasets)
complete_runs = _completer(_runs)
complete_networks = _or_files(_completer(_backbones))
complete_runs_or_files = _or_files(complete_runs)
complete_features = _completer(_features)
complete_heads = _completer(_heads)
complete_metrics = _completer(lambda _: [(name, "") for name in _METRICS])
