"""Faithfulness of maps: deletion, insertion and masks, beside noise."""

import numpy as np
from PIL import Image
from toys import Heard

from featcache.commands.explain import explain, explained_images, faithfulness, model
from featcache.dataset import manifest
from featcache.dataset.manifest import Manifest


def _with_masks(dataset: Manifest, sizes: dict[str, tuple[int, int]]) -> Manifest:
    """The dataset with a column of masks: the left half is white."""
    table, folder = dataset.table.copy(), dataset.root / "masks"
    folder.mkdir(exist_ok=True)
    table["mask"] = ""
    for image_id, (width, height) in sizes.items():
        mask = np.zeros((height, width), np.uint8)
        mask[:, : width // 2] = 255
        Image.fromarray(mask).save(folder / f"{image_id[:8]}.png")
        table.loc[table["image_id"] == image_id, "mask"] = f"masks/{image_id[:8]}.png"
    changed = Manifest(dataset.folder, dataset.settings, table)
    manifest.save(changed)
    return changed


def test_faithfulness_has_figures_a_class_and_method(
    trained, dataset, toy_network
) -> None:
    """Each method is beside noise; masks of another shape are left out."""
    run = trained()
    ids = explained_images.first_of_each(explained_images.evaluated_rows(run), 2)
    sizes = dict.fromkeys(ids, (80, 64)) | {ids[0]: (64, 64)}
    messages: list[str] = []
    result = explain(
        _with_masks(dataset, sizes), run, per_class=2, of="true", faithfulness=True,
        mean=0, files=[toy_network], reporter=Heard(messages),
    )  # fmt: skip
    assert any("64x64 does not have the proportions" in text for text in messages)
    names = {(f.method, f.name) for f in result.figures}
    every = ["deletion", "insertion", "inside mask", "pointing mask", "area mask"]
    assert names == {(m, n) for m in ("linear", faithfulness.CHANCE) for n in every}
    assert all(0 <= f.low <= f.value <= f.high <= 1 for f in result.figures
               if f.groups > 1)  # fmt: skip
    assert {f.value for f in result.figures if f.name == "area mask"} == {0.5}
    count = {f.label: f.images for f in result.figures if f.name == "inside mask"}
    assert sorted(count.values()) == [1, 2, 2]
    assert len(result.maps) == 6  # noise is in the figures alone


def test_deletion_ends_grey_and_insertion_ends_plain(
    trained, look, dataset, toy_network
) -> None:
    """With an even map both curves start and end at known probabilities."""
    run = trained()
    (one,) = look(run, images=[str(dataset.ok["path"].iloc[0])]).maps
    explained = model.of_run(run, dataset.folder, files=[toy_network])
    both = faithfulness.curves(explained, one)
    assert set(both) == {"deletion", "insertion"}
    assert all(0 < area < 1 for area in both.values())
    same = faithfulness.curves(explained, one)
    assert both == same
