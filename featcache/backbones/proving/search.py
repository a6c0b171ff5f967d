"""Which change of a descriptor makes its canary fit."""

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from featcache.backbones import canary
from featcache.backbones.base import TOKENS, VECTOR, Network, Preprocess
from featcache.backbones.descriptor import POOLINGS, Descriptor
from featcache.backbones.graphs.readout import KINDS
from featcache.backbones.proving import suspects
from featcache.backbones.proving.raw import RawNetwork, pooled, raw
from featcache.backbones.proving.suspects import Suspect, log_distance
from featcache.core.taps import AVG, FEATURES
from featcache.dataset.views import Resize, render

if TYPE_CHECKING:
    import keras

CLOSE = 1e-4  # relative to the largest number of the canary's embedding
SAME_WAY = 0.9999  # cosine
SECONDS = 60.0  # for changes that have to be made together
_MOST_CHANGES = 3
_CHUNK = 8
_PREFIXES = (0, 1, 2, 5)
_POOLINGS = {
    "avg": "the mean over the map or the patches",
    "max": "the maximum over the map or the patches",
    "cls": "the class token",
    "cls+mean": "the class token and the mean over the patches",
}


@dataclass(frozen=True)
class Agreement:
    """How near an embedding is to that of a canary.

    Attributes:
        difference: Largest, relative to the largest number of the canary's.
        cosine: Of the angle between them.
    """

    difference: float
    cosine: float

    @classmethod
    def of(cls, embedding: np.ndarray, expected: np.ndarray) -> "Agreement":
        """Of (D,) and (D,); of another width, or not finite: infinitely far."""
        if embedding.shape != expected.shape or not np.isfinite(embedding).all():
            return cls(float("inf"), 0.0)
        x, y = embedding.astype(np.float64), expected.astype(np.float64)
        lengths = float(np.linalg.norm(x) * np.linalg.norm(y))
        return cls(
            float(np.abs(x - y).max() / np.abs(y).max()),
            float(x @ y) / lengths if lengths else 0.0,
        )

    @property
    def is_close(self) -> bool:
        """Whether the canary fits."""
        return self.difference <= CLOSE and self.cosine >= SAME_WAY


@dataclass(frozen=True, eq=False)
class Cause:
    """A change of a descriptor, and how near its canary comes with it.

    Attributes:
        changes: What is changed, in order.
        agreement: With the canary.
        values: Keys of the descriptor and what they have to be; None to remove one.
    """

    changes: tuple[Suspect, ...]
    agreement: Agreement
    values: Mapping[str, Any]

    @property
    def words(self) -> str:
        """What would then be so."""
        return " and ".join(one.words for one in self.changes if one.words)

    @property
    def line(self) -> str:
        """What to write into the JSON, as one line of it."""
        pairs = self.values.items()
        return ", ".join(f'"{k}": {_text(v)}' for k, v in pairs if v is not None)

    @property
    def removed(self) -> list[str]:
        """Keys that have to go."""
        return [key for key, value in self.values.items() if value is None]


@dataclass(frozen=True, eq=False)
class Verdict:
    """What a search came to.

    Attributes:
        cause: The fewest changes with which the canary fits.
        closest: Those that come nearest, where none fits.
        tried: Ways to use the network.
        complete: Whether there was time for all.
    """

    cause: Cause | None
    closest: Cause | None
    tried: int
    complete: bool


@dataclass(eq=False)
class Search:
    """Tries changes of a descriptor: each alone, then two and three together.

    Args:
        network: At the size of the canary.
        descriptor: Of it, with a canary.
        model: The network as ``build`` gave it, if it is there.
        seconds: For changes that have to be made together.
        clock: Tells the time.
    """

    network: Network
    descriptor: Descriptor
    model: "keras.Model | None" = None
    seconds: float = SECONDS
    clock: Callable[[], float] = time.monotonic
    _pictures: dict[Resize, np.ndarray] = field(default_factory=dict)
    _inputs: set[tuple[Any, ...]] = field(default_factory=set)
    _tried: int = 0
    _best: Cause | None = None

    def run(self) -> Verdict:
        """Stops with the fewest changes that fit."""
        started, distances = self.clock(), dict[Suspect, float]()
        for level in range(_MOST_CHANGES + 1):
            fits: list[Cause] = []
            every = self._combinations(level, distances)
            for start in range(0, len(every), _CHUNK):
                if level > 1 and self.clock() - started > self.seconds:
                    return self._verdict(fits, complete=False)
                for combo, causes in self._tries(every[start : start + _CHUNK]):
                    fits += [one for one in causes if one.agreement.is_close]
                    if level == 1:
                        nearest = min(one.agreement.difference for one in causes)
                        distances[combo[0]] = log_distance(nearest)
                if level > 1 and fits:
                    break
            if fits:
                return self._verdict(fits, complete=True)
        return self._verdict([], complete=True)

    def _verdict(self, fits: Sequence[Cause], *, complete: bool) -> Verdict:
        cause = min(fits, key=_simplicity, default=None)
        return Verdict(cause, self._best, self._tried, complete)

    @cached_property
    def _base(self) -> Descriptor:
        base = suspects.in_numbers(self.network, self.descriptor)
        how = self.network.readout
        if not how:
            return base
        return replace(
            base, layout=how.layout, pooling=how.pooling, prefix_tokens=how.prefix
        )

    @cached_property
    def _raw(self) -> dict[str, RawNetwork]:
        return raw(self.network, self.descriptor, self.model)

    @cached_property
    def _expected(self) -> np.ndarray:
        assert self.descriptor.canary
        return np.array(self.descriptor.canary.embedding)

    @cached_property
    def _suspects(self) -> list[Suspect]:
        side, channels = self.network.input_size, self.network.channels
        layouts = [suspects.of_layout(one) for one in list(self._raw)[1:]]
        return [*suspects.of_input(self._base, side, channels), *layouts]

    def _combinations(
        self, level: int, distances: Mapping[Suspect, float]
    ) -> list[tuple[Suspect, ...]]:
        """Changes that can be made together, the most promising first."""
        several = [
            combo
            for combo in combinations(self._suspects, level)
            if len({one.aspect for one in combo}) == level
        ]
        if level < 2:
            return several
        return sorted(
            several, key=lambda combo: sum(distances.get(s, 0) for s in combo)
        )

    def _tries(
        self, combos: Sequence[tuple[Suspect, ...]]
    ) -> Iterator[tuple[tuple[Suspect, ...], list[Cause]]]:
        """Runs the network with each change of its input and reads it in all ways."""
        by_layout: dict[str, list[tuple[tuple[Suspect, ...], np.ndarray]]] = {}
        for combo in combos:
            resize, scaling, layout = key = self._input(combo)
            if key not in self._inputs:
                self._inputs.add(key)
                values = self._values(resize, scaling)
                by_layout.setdefault(layout, []).append((combo, values))
        for layout, tries in by_layout.items():
            outputs = self._raw[layout].run(np.stack([values for _, values in tries]))
            for i, (combo, _) in enumerate(tries):
                rows = {name: value[i : i + 1] for name, value in outputs.items()}
                yield combo, self._read(combo, rows, layout)

    def _input(self, combo: Iterable[Suspect]) -> tuple[Resize, Preprocess, str]:
        described, side = self._changed(combo), self.network.input_size
        return (
            described.resizing(side) or Resize(side),
            described.numbers or Preprocess(),
            described.layout or next(iter(self._raw)),
        )

    def _changed(self, combo: Iterable[Suspect]) -> Descriptor:
        values = {key: v for one in combo for key, v in one.values.items()}
        return replace(self._base, **values)

    def _values(self, resize: Resize, scaling: Preprocess) -> np.ndarray:
        """What the network takes of the picture: (S, S, C) float32."""
        if resize not in self._pictures:
            self._pictures[resize] = render(canary.picture(), resize)
        return scaling.apply(self._pictures[resize], self.network.channels)

    def _read(
        self, combo: tuple[Suspect, ...], outputs: dict[str, np.ndarray], layout: str
    ) -> list[Cause]:
        """Every way to read an embedding out of the outputs; first the present one."""
        causes = []
        for changes, name, pooling, prefix in self._readings(outputs):
            embedding = pooled(outputs[name], layout, pooling, prefix)[0]
            agreement = Agreement.of(embedding, self._expected)
            every = (*combo, *changes)
            cause = Cause(every, agreement, self._to_write(every))
            self._tried += 1
            causes.append(cause)
            if every and (self._best is None or _nearer(cause, self._best)):
                self._best = cause
        return causes

    def _readings(
        self, outputs: Mapping[str, np.ndarray]
    ) -> Iterator[tuple[list[Suspect], str, str, int]]:
        """Changes of the output, its name, how it is pooled, and tokens in front."""
        first = next(iter(outputs))
        own, prefix = self._base.pooling or AVG, self._base.prefix_tokens or 0
        for name, value in outputs.items():
            kind = KINDS[value.ndim]
            usual = own if own in POOLINGS[kind] else AVG
            changes = [] if name == first else [self._other_output(name, kind, usual)]
            if first == FEATURES and len(outputs) == 1 and not self.network.readout:
                yield changes, name, AVG, 0
                continue
            for pooling in (usual, *(p for p in POOLINGS[kind] if p != usual)):
                pools = [] if pooling == usual else [_pooling(pooling)]
                yield [*changes, *pools], name, pooling, prefix
                if kind != TOKENS or pooling == "cls":
                    continue
                for number in _PREFIXES:
                    if number != prefix and number < value.shape[1]:
                        tokens = [*changes, *pools, _prefix(number)]
                        yield tokens, name, pooling, number

    def _other_output(self, name: str, kind: str, pooling: str) -> Suspect:
        values: dict[str, Any] = {"output": name}
        if self.descriptor.output_kind not in (None, kind):
            values["output_kind"] = kind
        if pooling != (self._base.pooling or AVG):
            values["pooling"] = None if kind == VECTOR else pooling
        return Suspect("output", f"the output {name}", values)

    def _to_write(self, changes: Sequence[Suspect]) -> dict[str, Any]:
        """Keys whose values change, as the user wrote them or has to write them."""
        base, changed = self._base, self._changed(changes)
        names = [one.name for one in fields(Descriptor) if one.name != "canary"]
        pairs = {name: getattr(changed, name) for name in names}
        values = {k: v for k, v in pairs.items() if v != getattr(base, k)}
        numbers = ("range", "mean", "std", "order")
        written = [k for k in numbers if getattr(self.descriptor, k) is not None]
        if written or not values.keys() & {*numbers}:
            return values
        rest = {k: v for k, v in values.items() if k not in numbers}
        if (mode := suspects.mode_of(changed)) is not None:
            return {"preprocess": mode} | rest
        without = {"preprocess": None} if self.descriptor.preprocess else {}
        return {k: pairs[k] for k in numbers} | rest | without


def _text(value: Any) -> str:
    """A value as JSON, whole numbers without a point."""
    if isinstance(value, list):
        return f"[{', '.join(map(_text, value))}]"
    is_whole = isinstance(value, float) and value.is_integer()
    return json.dumps(int(value) if is_whole else value)


def _simplicity(cause: Cause) -> tuple[int, float]:
    return len(cause.changes), cause.agreement.difference


def _nearer(one: Cause, other: Cause) -> bool:
    return one.agreement.difference < other.agreement.difference


def _pooling(pooling: str) -> Suspect:
    return Suspect("pooling", f"{_POOLINGS[pooling]}", {"pooling": pooling})


def _prefix(number: int) -> Suspect:
    words = f"{number} tokens in front of those of the patches"
    return Suspect("tokens", words, {"prefix_tokens": number, "grid": None})
