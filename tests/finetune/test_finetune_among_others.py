"""What explain and ensembles make of fine-tuned networks, without training one."""

from types import SimpleNamespace

import numpy as np
import pytest
from records import make_record

from featcache.commands import ensemble
from featcache.commands.explain.finetuned import FinetunedNet


def test_the_usual_image_is_of_all_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred images in the order of their ids, not in that of the table."""
    ids = [f"{number * 7919 % 400:03d}" for number in range(400)]
    seen: list[str] = []

    def look(image_ids: list[str], _: object, most: int) -> np.ndarray:
        seen.extend(image_ids[:most])
        return np.zeros((most, 2))

    layer = SimpleNamespace(output=SimpleNamespace(shape=(None, 2)))
    net = FinetunedNet("toy", None, layer, look, None)  # type: ignore[arg-type]
    monkeypatch.setattr(net, "embed", lambda pixels: pixels)
    assert net.mean(ids).shape == (2,)
    assert seen == sorted(ids)[:100]


def test_members_of_other_scalings_are_told_apart() -> None:
    """They have no contract that would tell."""
    records = [
        make_record(features=[{"contract_id": None, "preprocess": scaling}])
        for scaling in ("tf", "caffe", "tf")
    ]
    blocks = ensemble._blocks(records)
    assert [block.preprocess for block in blocks] == ["tf", "caffe"]
