"""The model card: what a person should know before using a bundle."""

from collections.abc import Iterator, Mapping
from typing import Any

from featcache.core.text import NOT_STATED, printable
from featcache.deploy.bundle.record import BundleRecord, NetworkRecord

_NAMES = {"auc": "AUC", "log_loss": "log-loss", "ece": "calibration error (ECE)"}


def card(record: BundleRecord) -> str:
    """Markdown about a model (after Mitchell et al., FAccT 2019)."""
    return "\n".join(_lines(record)) + "\n"


def _lines(record: BundleRecord) -> Iterator[str]:
    yield f"# Model card: {printable(record.run)}"
    yield ""
    yield f"**Intended use.** {printable(record.intended_use)}"
    yield ""
    yield "## Answers"
    yield f"Classes: {', '.join(map(printable, record.classes))}."
    for network in record.networks:
        carried = "in this file" if network.is_member else "not in this file"
        size = f", {network.size} px" if network.size else ""
        own = network.weights == "file"
        weights = "own weights" if own else f"weights {network.weights}"
        yield (
            f"- Network {printable(network.name)}{size}, {weights} "
            f"({carried}); {printable(_origin(network))}"
        )
    for member, weight in zip(record.members, record.weights, strict=True):
        share = f", weight {weight:.3g}" if len(record.members) > 1 else ""
        yield f"- Model {printable(member.name)}{share}"
    yield ""
    yield "## Training data and evaluation"
    yield f"Dataset {printable(record.dataset)}; trained {record.created[:10]}."
    yield from _facts(record.training)
    yield ""
    yield "## Refusal"
    if record.refusal:
        yield "Images unlike the training images are refused, with the reason."
    else:
        yield "**None: every readable image is answered for.**"
    yield ""
    yield "## What was not checked"
    yield (
        "Figures of the training data say little about other hospitals: validate the "
        "model on your own labelled images before relying on it."
    )


def _origin(network: NetworkRecord) -> str:
    """Licence, source, and whether the preprocessing is proven."""
    text = f"licence of the weights: {network.licence or NOT_STATED}"
    text += f"; source: {network.source or NOT_STATED}"
    proof = {
        "passed": "; preprocessing proven by its canary",
        "absent": "; preprocessing unproven (no canary)",
    }
    return text + proof.get(network.canary or "", "")


def _facts(facts: Mapping[str, Any]) -> Iterator[str]:
    for name, value in facts.items():
        if isinstance(value, list):
            yield f"- {printable(name)}:"
            yield from (f"  - {printable(str(one))}" for one in value)
            continue
        text = _figures(value) if isinstance(value, dict) else str(value)
        yield f"- {printable(name)}: {printable(text)}"


def _figures(values: Mapping[str, Any]) -> str:
    """Numbers in a line; an interval stands behind its score."""
    texts = []
    for key, one in values.items():
        low, high = values.get(f"{key}_low"), values.get(f"{key}_high")
        interval = f" (95 %: {low} to {high})" if None not in (low, high) else ""
        if not key.endswith(("_low", "_high")):
            texts.append(f"{_NAMES.get(key, key)} {one}{interval}")
    return ", ".join(texts)
