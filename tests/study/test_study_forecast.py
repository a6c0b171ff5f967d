"""A study says what it will compute before it starts."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from records import make_run

from featcache import study as studies
from featcache.backbones import Network, resolve
from featcache.commands.extract import extract
from featcache.commands.train_head import HeadOptions
from featcache.commands.train_head.forecast import Effort
from featcache.core.io import read_json, write_json
from featcache.dataset import manifest
from featcache.dataset.manifest import Manifest
from featcache.errors import StoreError
from featcache.study import forecast as study_forecast
from featcache.study import guesses
from featcache.study.forecast import forecast

TEXT = """
[dataset]
source = "chest"
[[extract]]
backbones = ["border"]
[[train]]
heads = ["logreg", "majority"]
folds = 3
"""


def test_rows_time_disk_and_fits_are_told(
    study_file, dataset: Manifest, tmp_path: Path
) -> None:
    """At first there is a guess; what is stored is not counted; then it is measured."""
    study = studies.read(study_file(TEXT))
    width = resolve("border").row.dim
    text = forecast(study, dataset, tmp_path)
    assert "36 images; 36 embeddings to compute (at a guess 1 s)" in text
    assert "; at most 8 fits of heads to do (at a guess " in text
    assert f"; up to {4 + 36 * 4 * width / 2**20:.1f} MiB of disk, " in text
    assert text.endswith(" free")
    extract(dataset, [resolve("border")])
    text = forecast(study, dataset, tmp_path)
    assert text.startswith("36 images; at most 8 fits of heads to do (at a guess ")
    assert "; up to 4.0 MiB of disk, " in text
    measured(dataset, 3600.0, 3600.0)
    more = studies.read(study_file(TEXT.replace('border"]', 'border"]\nviews = 1')))
    text = forecast(more, dataset, tmp_path)
    assert "36 embeddings to compute (about 60 min)" in text
    measured(dataset, 3600.0, 1800.0)
    text = forecast(more, dataset, tmp_path)
    assert "36 embeddings to compute (about 30 min)" in text
    measured(dataset, 3600.0, 0.0)  # of a call whose end nobody wrote down
    assert "(about 60 min)" in forecast(more, dataset, tmp_path)


def measured(dataset: Manifest, network: float, call: float) -> None:
    """Says of the only extraction that its network and the whole call took so long."""
    (path,) = dataset.folder.glob("extract-*.json")
    record = read_json(path)
    record["stores"][0] |= {"seconds": network}
    write_json(path, record | {"seconds": call})


def test_blocks_of_one_network_share_their_rows(
    study_file, dataset: Manifest, tmp_path: Path
) -> None:
    """The plain view is computed once; further layers need another pass."""
    block = '[[extract]]\nname = "{}"\nbackbones = ["vgg19"]\nweights = "random"\n{}'
    blocks = [block.format("plain", ""), block.format("views", "views = 2\n")]
    study = studies.read(study_file(TEXT + "".join(blocks)))
    text = forecast(study, dataset, tmp_path)
    assert f"{36 + 3 * 36} embeddings to compute" in text
    more = block.format("layers", 'taps = "default"\n')
    study = studies.read(study_file(TEXT + "".join([*blocks, more])))
    text = forecast(study, dataset, tmp_path)
    assert f"{36 + 3 * 36 + 36} embeddings to compute" in text


def test_a_disk_that_is_too_small_is_told(
    study_file, dataset: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Embeddings that do not fit are refused; what may not fit is a warning."""
    need = 36 * 4 * resolve("border").row.dim
    sizes = [need - 1, need]
    usage = SimpleNamespace(disk_usage=lambda _: SimpleNamespace(free=sizes[0]))
    monkeypatch.setattr(study_forecast, "shutil", usage)
    study = studies.read(study_file(TEXT))
    with pytest.raises(StoreError, match="of disk for the embeddings"):
        forecast(study, dataset, tmp_path)
    sizes.pop(0)
    assert forecast(study, dataset, tmp_path).endswith("that may not be enough")
    sizes[0] += 8 * 2**19  # for as many fits
    assert forecast(study, dataset, tmp_path).endswith(" free")


def test_a_larger_network_is_guessed_to_take_longer(tmp_path: Path) -> None:
    """By the bytes of its weights, the pixels of its input and the cores."""
    files = [tmp_path / "small.keras", tmp_path / "large.keras"]
    small, large = (
        Network(path.stem, "file", "none", 224, file=path) for path in files
    )
    for path, size in zip(files, (2**20, 2**24), strict=True):
        path.write_bytes(bytes(size))
    wide = replace(small, input_size=448)
    guess = guesses.embedding_seconds
    assert guess(resolve("border")) < guess(small) < guess(wide) < guess(large)
    assert guesses.training_seconds(small) > guess(small)


def test_a_larger_fit_is_guessed_to_take_longer() -> None:
    """By its numbers, its head, and whether it is tuned."""
    head = HeadOptions(tune=False).describe("logreg", [100])
    tuned = HeadOptions(tune=True).describe("logreg", [100])
    guess = guesses.fit_seconds
    small = guess(Effort.of(head, 10_000, 100))
    assert guess(Effort.of(head, 20_000, 100)) > small
    assert guess(Effort.of(tuned, 10_000, 100)) > small
    quick = HeadOptions().describe("majority", [100])
    assert guess(Effort.of(quick, 10_000, 100)) < small


def test_fits_take_what_earlier_fits_took(
    study_file, dataset: Manifest, tmp_path: Path
) -> None:
    """By head, columns and rows of the runs in the reports, whatever their dataset."""
    width = resolve("border").row.dim
    shared = {"n_images": 36, "features": [{"dim": width}], "views": 0}
    for head, seconds in (("logreg", 60.0), ("majority", 0.0)):
        took = {"fit_seconds": seconds, "fold_seconds": [seconds] * 2}
        head_is = HeadOptions().describe(head, [width]).to_json()
        took |= {"predict_seconds": 0.0, "head_is": head_is}
        make_run(tmp_path / "other", head, head=head, **took, **shared)
    study = studies.read(study_file(TEXT))
    text = forecast(study, dataset, tmp_path, jobs=2)
    assert "; at most 8 fits of heads to do (about 2 min)" in text
    more = studies.read(study_file(TEXT.replace('"majority"', '"svm"')))
    text = forecast(more, dataset, tmp_path, jobs=2)
    assert "; at most 8 fits of heads to do (at a guess 2 min)" in text


def test_fits_that_are_done_are_not_counted(
    study_file, dataset: Manifest, tmp_path: Path
) -> None:
    """Of each block only the runs that are not there."""
    study = studies.read(study_file(TEXT.replace('"logreg", ', "")))
    studies.run(study, dataset.folder.parent, reports=tmp_path, jobs=1)
    scanned = manifest.load(dataset.folder)
    text = forecast(study, scanned, tmp_path)
    assert text == "36 images; all heads are trained"
    more = studies.read(study_file(TEXT.replace('"logreg"', '"softmax-untrained"')))
    text = forecast(more, scanned, tmp_path)
    assert "at most 4 fits of heads to do" in text


def test_networks_take_what_earlier_networks_took(
    study_file, dataset: Manifest, tmp_path: Path
) -> None:
    """By the minutes of an epoch; one that was never trained is a guess."""
    block = '[[finetune]]\nbackbones = ["vgg19"]\nweights = "random"\nepochs = 5\n'
    study = studies.read(study_file(f"{TEXT}{block}folds = 2\n"))
    told = forecast(study, dataset, tmp_path)
    assert "; 1 network to fine-tune (at a guess " in told
    trained = {"trainings": [{"fold": -1, "epochs": 4, "minutes": 2.0}]}
    vgg19 = {"backbone": "vgg19", "features": [{"input_size": 224}]}
    make_run(tmp_path / "other", "a", head="finetune", n_images=18, **trained, **vgg19)
    told = forecast(study, dataset, tmp_path)
    assert "; 1 network to fine-tune (about 15 min without early stopping); " in told


@pytest.mark.slow
def test_networks_that_are_done_are_not_counted(
    study_file, dataset: Manifest, tmp_path: Path
) -> None:
    """Not even one that starts from a head of the study."""
    blocks = """
[[extract]]
name = "toy"
backbones = ["${NET}"]
engine = "tensorflow"
[[train]]
name = "heads"
from = "toy"
heads = ["softmax"]
folds = 3
[[finetune]]
backbones = ["${NET}"]
init_head = "heads"
folds = 3
fold = "test"
epochs = 1
"""
    study = studies.read(study_file(TEXT + blocks))
    assert "1 network to fine-tune" in forecast(study, dataset, tmp_path)
    result = studies.run(study, dataset.folder.parent, reports=tmp_path, jobs=1)
    assert not result.failures
    text = forecast(study, manifest.load(dataset.folder), tmp_path)
    assert text == "36 images; all heads are trained"
