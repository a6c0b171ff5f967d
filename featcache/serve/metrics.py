"""Counts and times, in the text format of Prometheus."""

import threading
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

BOUNDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


@dataclass
class Metrics:
    """What a server has done since its start; nothing of any image.

    Attributes:
        requests: By path and status of HTTP.
        answers: By bundle and status.
        batches: Calls of the models, by bundle.
        batched: Images in them.
    """

    requests: Counter[tuple[str, str]] = field(default_factory=Counter)
    answers: Counter[tuple[str, str]] = field(default_factory=Counter)
    batches: Counter[str] = field(default_factory=Counter)
    batched: Counter[str] = field(default_factory=Counter)
    _times: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS) + 1))
    _seconds: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def answered(self, path: str, status: int, seconds: float) -> None:
        """Counts a request."""
        self.requests[path, str(status)] += 1
        self._times[bisect_left(BOUNDS, seconds)] += 1
        self._seconds += seconds

    def batch(self, bundle: str, size: int) -> None:
        """Counts a call of a model; from any thread."""
        with self._lock:
            self.batches[bundle] += 1
            self.batched[bundle] += size

    def text(self, waiting: Mapping[str, int]) -> str:
        """All of it.

        Args:
            waiting: Images that wait, by bundle.
        """
        with self._lock:
            batches, batched = dict(self.batches), dict(self.batched)
        lines = [
            *_family("featcache_requests_total", "counter", "Requests.", [
                ({"path": path, "status": status}, n)
                for (path, status), n in self.requests.items()
            ]),
            *_family("featcache_images_total", "counter", "Images, by answer.", [
                ({"bundle": bundle, "status": status}, n)
                for (bundle, status), n in self.answers.items()
            ]),
            *_family("featcache_batches_total", "counter", "Calls of models.",
                     [({"bundle": name}, n) for name, n in batches.items()]),
            *_family("featcache_batched_images_total", "counter", "Images in them.",
                     [({"bundle": name}, n) for name, n in batched.items()]),
            *_family("featcache_waiting_images", "gauge", "Images that wait.",
                     [({"bundle": name}, n) for name, n in waiting.items()]),
            *self._histogram("featcache_request_seconds"),
        ]  # fmt: skip
        return "\n".join(lines) + "\n"

    def _histogram(self, name: str) -> list[str]:
        total, rows = 0, []
        for bound, count in zip((*BOUNDS, "+Inf"), self._times, strict=True):
            total += count
            rows.append(f'{name}_bucket{{le="{bound}"}} {total}')
        head = [f"# HELP {name} Seconds of requests.", f"# TYPE {name} histogram"]
        return [*head, *rows, f"{name}_sum {self._seconds:g}", f"{name}_count {total}"]


def _family(
    name: str, kind: str, text: str, rows: Iterable[tuple[Mapping[str, str], int]]
) -> list[str]:
    lines = [f"# HELP {name} {text}", f"# TYPE {name} {kind}"]
    for labels, value in rows:
        pairs = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
        lines.append(f"{name}{{{pairs}}} {value}")
    return lines


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
