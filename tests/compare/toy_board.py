"""What the made-up runs of the leaderboard are made of."""

from collections.abc import Callable

CLASSES = ["COVID", "NORMAL"]
GROUPS, FOLDS = 100, 5
Add = Callable[..., str]
