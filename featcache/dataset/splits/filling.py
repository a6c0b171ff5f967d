"""Filling the parts of a split: greedy, stratified, by group."""

import itertools
from collections.abc import Mapping

import numpy as np
import pandas as pd

_ATTEMPTS = 20

Content = list[tuple[int, int]]  # what a group holds: (class index, images) pairs


class _Filling:
    """Parts while groups are being placed in them."""

    def __init__(self, shares: Mapping[int, float], contents: list[Content]) -> None:
        self.shares = shares
        classes = 1 + max(c for content in contents for c, _ in content)
        self.totals = [0] * classes
        self.left = [0] * classes  # groups not placed yet
        for c, count in itertools.chain.from_iterable(contents):
            self.totals[c] += count
            self.left[c] += 1
        self.images = [dict.fromkeys(shares, 0) for _ in range(classes)]
        self.parts_without = [len(shares)] * classes  # parts without an image
        self.sizes = dict.fromkeys(shares, 0)

    def add(self, content: Content, part: int) -> None:
        for c, count in content:
            self.left[c] -= 1
            self.parts_without[c] -= self.images[c][part] == 0
            self.images[c][part] += count
            self.sizes[part] += count

    def best(self, content: Content) -> int:
        """The part where the group is needed most."""
        # A class with no group to spare must go where it is lacking.
        scarce = [c for c, _ in content if self.left[c] <= self.parts_without[c]]
        return min(self.shares, key=lambda part: self._cost(content, scarce, part))

    def _cost(
        self, content: Content, scarce: list[int], part: int
    ) -> tuple[int, float, float]:
        """Scarce classes first, then the balance of classes, then of sizes."""
        share = self.shares[part]
        filled = sum(self.images[c][part] == 0 for c in scarce)
        # Growth of (images - target)^2 / (share total^2). Without the share, a large
        # test part would get all the largest groups, and too few groups.
        growth = 0.0
        for c, count in content:
            excess = self.images[c][part] - share * self.totals[c]
            growth += count * (2 * excess + count) / (share * self.totals[c] ** 2)
        return -filled, growth, self.sizes[part] / share


def fill(
    table: pd.DataFrame,
    shares: Mapping[int, float],
    pinned: Mapping[str, int],
    draw: tuple[int, int],
) -> dict[str, int]:
    """The part of each group; every class in every part if some attempt gives it.

    Args:
        table: Columns label and group, a row an image.
        shares: Share of the images that each part should get.
        pinned: Parts of groups that stand already.
        draw: Seed and repeat, which decide the order of the groups.
    """
    names, contents = _contents(table)
    part_of: dict[str, int] = {}
    for attempt in range(_ATTEMPTS):
        filling = _Filling(shares, contents)
        order = _order(contents, draw, attempt)
        for index in sorted(order, key=lambda index: names[index] not in pinned):
            name, content = names[index], contents[index]
            part_of[name] = pinned[name] if name in pinned else filling.best(content)
            filling.add(content, part_of[name])
        if not any(filling.parts_without):
            break
    return part_of


def _contents(table: pd.DataFrame) -> tuple[list[str], list[Content]]:
    """Groups in the order of their names, and what each holds."""
    groups, names = pd.factorize(table["group"], sort=True)
    labels, classes = pd.factorize(table["label"], sort=True)
    pairs, counts = np.unique(groups * len(classes) + labels, return_counts=True)
    contents: list[Content] = [[] for _ in names]
    for pair, count in zip(pairs.tolist(), counts.tolist(), strict=True):
        contents[pair // len(classes)].append((pair % len(classes), count))
    return list(names), contents


def _order(contents: list[Content], draw: tuple[int, int], attempt: int) -> list[int]:
    """Indices of the groups: large ones first, or in any order at later attempts."""
    seed, repeat = draw
    # Raw bits, because NumPy promises only these to stay the same (NEP 19). Repeat 0
    # draws as [seed, attempt] does.
    shuffle = np.random.PCG64([seed, attempt, repeat]).random_raw(len(contents))
    order: list[int] = np.argsort(shuffle, kind="stable").tolist()
    if attempt == 0:
        order.sort(key=lambda index: -sum(count for _, count in contents[index]))
    return order
