"""Made-up runs, of which it is known which images they have right."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from records import make_run
from toy_board import CLASSES, FOLDS, GROUPS, Add


@pytest.fixture
def reports(tmp_path: Path) -> Path:
    return tmp_path / "reports" / "chest"


@pytest.fixture
def add(reports: Path) -> Add:
    """Writes a run: which of its 200 images, two a group, are right, and how sure."""

    def call(
        head: str,
        wrong: range | list[int] = range(0),
        *,
        backbone: str = "toy",
        repeat: int = 0,
        labels: list[str] | None = None,
        sure: float = 0.8,
        test: int = 0,
        **record: Any,
    ) -> str:
        numbers = np.arange(2 * GROUPS)
        groups = numbers // 2
        label = np.array(labels or [CLASSES[g % 2] for g in groups])
        fold = (groups // 2 + repeat * (groups // 10)) % FOLDS
        fold[groups < test] = -1
        right = ~np.isin(numbers, list(wrong))
        p = np.where(right == (label == CLASSES[0]), sure, 1 - sure)
        table = pd.DataFrame({"image_id": numbers.astype(str), "group": groups})
        table["label"], table["fold"] = label, fold
        table["split"] = np.where(fold < 0, "test", "train")
        table["p_COVID"], table["p_NORMAL"] = p, 1 - p
        run_id = f"{head}-{backbone}-{repeat}"
        about = {
            "created": f"2026-01-01T00:00:{len(list(reports.glob('runs/*'))):02d}",
            "classes": CLASSES,
            "head": head,
            "backbone": backbone,
            "weights": "imagenet",
            "recipe_id": f"{head}-{backbone}",
            "evaluation_id": f"judged-{repeat}",
            "split": {
                "name": f"first-r{repeat}" if repeat else "first",
                "base": "first",
                "repeat": repeat,
            },
        }
        return make_run(reports, run_id, table, **about | record).run_id

    return call
