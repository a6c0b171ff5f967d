"""How long the fits that are left will take, by what those before them took."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from featcache.core.text import duration

# What a fit takes a column, beside that of a quick head: rough, measured on 2304
# columns of 1123 images.
_COSTS = {
    "logreg": 40, "xgboost": 20, "svm": 15, "mlp-dropout": 7, "mlp": 2, "softmax": 1,
}  # fmt: skip


def cost(head: str, columns: int) -> float:
    """What a fit of a head takes, roughly, compared with other fits on as many rows."""
    return _COSTS.get(head, 0.5) * columns


@dataclass
class Forecast:
    """The fits of a call, and the seconds of those that have ended.

    Attributes:
        heads: Name of the head of each fit.
        costs: What each takes, roughly, compared with the others.
        jobs: Fits at the same time.
        seconds: By the number of the fit, what it took.
    """

    heads: Sequence[str]
    costs: Sequence[float]
    jobs: int
    seconds: dict[int, float] = field(default_factory=dict)

    def remaining(self) -> float:
        """Seconds until all fits have ended; NaN before any has.

        A head that was fitted before takes what it took then; of the others, the costs
        are trusted.
        """
        rates = {name: self._rate(name) for name in dict.fromkeys(self.heads)}
        overall = self._rate(None)
        left = [i for i in range(len(self.heads)) if i not in self.seconds]
        total = sum(self.costs[i] * (rates[self.heads[i]] or overall) for i in left)
        return total / self.jobs if self.seconds else float("nan")

    def _rate(self, head: str | None) -> float:
        """Seconds for a cost of one, of a head or of all; 0 where there is no fit."""
        ended = [i for i in self.seconds if head in (None, self.heads[i])]
        cost = sum(self.costs[i] for i in ended)
        return sum(self.seconds[i] for i in ended) / cost if cost else 0.0

    @property
    def text(self) -> str:
        """The same in words."""
        return f"about {duration(self.remaining())} left" if self.seconds else ""
