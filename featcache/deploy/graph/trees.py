"""Boosted trees as tensor operations: all nodes at once, then the leaf reached."""

import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from featcache.deploy.graph.layers import dense


@dataclass(frozen=True)
class Trees:
    """Binary trees filled up to one depth; an image goes left where x < threshold.

    Where a branch ends early, its leaf stands on every place below.

    Attributes:
        features: (T, 2**depth - 1) column that each inner node looks at, level by
            level.
        thresholds: Likewise, float32.
        leaves: (T, 2**depth) values, float32.
        class_of: (T,) class that a tree votes for.
        base: (C,) margins before the first tree; one for two classes.
    """

    features: np.ndarray
    thresholds: np.ndarray
    leaves: np.ndarray
    class_of: np.ndarray
    base: np.ndarray

    @classmethod
    def of(cls, booster: Any) -> "Trees":
        """Reads a fitted ``xgboost.Booster`` of a softmax or logistic objective."""
        learner = json.loads(bytes(booster.save_raw("json")))["learner"]
        model = learner["gradient_booster"]["model"]
        depth = max(_depth(tree) for tree in model["trees"])
        filled = [_filled(tree, depth) for tree in model["trees"]]
        features, thresholds, leaves = (
            np.array(part) for part in zip(*filled, strict=True)
        )
        return cls(
            features.reshape(len(filled), -1).astype(np.int64),
            thresholds.reshape(len(filled), -1).astype(np.float32),
            leaves.astype(np.float32),
            np.array(model["tree_info"]),
            _base(learner),
        )

    @cached_property
    def depth(self) -> int:
        """Levels of inner nodes."""
        return int(self.leaves.shape[1]).bit_length() - 1

    def margins(self, x: Any) -> Any:
        """Sums of the leaves that ``x`` (N, D) reaches, (N, C) or (N, 1)."""
        import keras

        ops, count = keras.ops, len(self.leaves)
        values = ops.take(x, self.features.ravel(), axis=1)
        left = ops.cast(ops.less(values, self.thresholds.ravel()), "float32")
        left = ops.reshape(left, (-1, count, self.features.shape[1]))
        reached = ops.ones_like(left[:, :, :1])
        for level in range(self.depth):
            first = 2**level - 1
            bits = left[:, :, first : 2 * first + 1]
            both = ops.stack([reached * bits, reached * (1.0 - bits)], axis=-1)
            reached = ops.reshape(both, (-1, count, 2 ** (level + 1)))
        flat = ops.reshape(reached, (-1, self.leaves.size))
        return dense(flat, self._votes(), self.base)

    def _votes(self) -> np.ndarray:
        """(T * 2**depth, C) what each leaf adds to each class."""
        of_class = np.eye(len(self.base), dtype=np.float32)[self.class_of]
        votes = self.leaves[:, :, None] * of_class[:, None]
        return np.asarray(votes.reshape(self.leaves.size, -1))


def _base(learner: dict[str, Any]) -> np.ndarray:
    """Margins before the first tree; of two classes a probability is recorded."""
    base = np.array(json.loads(learner["learner_model_param"]["base_score"]), float)
    if learner["objective"]["name"] == "binary:logistic":
        base = np.log(base) - np.log1p(-base)
    return base


def _depth(tree: dict[str, Any], node: int = 0) -> int:
    left, right = tree["left_children"][node], tree["right_children"][node]
    return 0 if left < 0 else 1 + max(_depth(tree, left), _depth(tree, right))


def _filled(
    tree: dict[str, Any], depth: int
) -> tuple[list[int], list[float], list[float]]:
    """Columns and thresholds of the inner nodes of a whole tree, and its leaves."""
    features, thresholds, level = [], [], [0]
    for _ in range(depth):
        is_leaf = [tree["left_children"][node] < 0 for node in level]
        features += [tree["split_indices"][node] for node in level]
        thresholds += [tree["split_conditions"][node] for node in level]
        level = [
            child
            for node, ended in zip(level, is_leaf, strict=True)
            for child in (
                (node, node)
                if ended
                else (tree["left_children"][node], tree["right_children"][node])
            )
        ]
    return features, thresholds, [tree["split_conditions"][node] for node in level]
