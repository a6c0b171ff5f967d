"""What a study has looked at before is looked at again when it has changed."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from records import CLASSES, make_run
from toys import make_dataset

from featcache.core.io import write_json
from featcache.core.progress import SILENT
from featcache.dataset.manifest import Manifest
from featcache.evaluation import runs
from featcache.evaluation.runs import Run
from featcache.study import looks
from featcache.study.base import Explain


class Study:
    """A dataset with one run, whose maps are a file."""

    def __init__(self, home: Path) -> None:
        self.data: Manifest = make_dataset(home)
        ok = self.data.ok
        folds, p = np.zeros(len(ok), int), np.full((len(ok), 3), 1 / 3)
        table = runs.predictions_table(ok, folds, p, [*CLASSES])
        self.run: Run = make_run(home / "reports/chest", "logreg-net", table)
        self.settings: dict[str, Any] = {}

    def column(self, name: str, value: str) -> None:
        """Gives every image the same value in a column."""
        table = self.data.table.assign(**{name: value})
        self.data = replace(self.data, table=table)

    def explains(self) -> bool:
        """Whether maps are drawn."""
        request = Explain(None, False, self.settings)
        return looks.explain_again(self.data, self.run, request, [], _draw, SILENT)


def _draw(_: object, folder: Path, **__: Any) -> None:
    write_json(folder / "maps.json", {})


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    class Result:
        maps = ()

    monkeypatch.setattr(looks, "explain", lambda *_, **__: Result)
    return Study(tmp_path)


def test_maps_are_drawn_again_for_other_masks(study: Study) -> None:
    """The columns that decide the faithfulness figures, and those alone."""
    assert [study.explains(), study.explains()] == [True, False]
    study.column("lesion", "a.png")
    assert not study.explains()
    study.settings = {"faithfulness": True}
    assert [study.explains(), study.explains()] == [True, False]
    study.column("lesion", "b.png")
    assert [study.explains(), study.explains()] == [True, False]
    study.column("heart", "a.png")
    assert not study.explains()
    study.settings |= {"masks": ["heart"]}
    assert [study.explains(), study.explains()] == [True, False]
    study.column("heart", "b.png")
    assert [study.explains(), study.explains()] == [True, False]


def test_maps_are_drawn_again_for_other_labels_and_code(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A corrected label is another class to explain; other code draws other maps."""
    assert study.explains()
    study.column("label", "N")
    assert [study.explains(), study.explains()] == [True, False]
    monkeypatch.setattr(looks, "version", lambda _: "9.9")
    assert [study.explains(), study.explains()] == [True, False]
