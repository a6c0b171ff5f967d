"""A study says what it will compute before it starts."""

from pathlib import Path

from records import make_run

from featcache import backbones
from featcache import study as studies
from featcache.commands.extract import extract
from featcache.commands.train_head import HeadOptions
from featcache.core.io import read_json, write_json
from featcache.dataset import manifest
from featcache.dataset.manifest import Manifest
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
    text = forecast(study, dataset, tmp_path)
    assert "36 images; 36 embeddings to compute (a guess: 1 s, 0.1 MiB of" in text
    assert text.endswith("at most 8 fits of heads to do (never timed here)")
    extract(dataset, [backbones.resolve("border")])
    text = forecast(study, dataset, tmp_path)
    assert text == "36 images; at most 8 fits of heads to do (never timed here)"
    (path,) = dataset.folder.glob("extract-*.json")
    record = read_json(path)
    record["stores"][0] |= {"seconds": 3600.0}
    write_json(path, record)
    more = studies.read(study_file(TEXT.replace('border"]', 'border"]\nviews = 1')))
    assert "36 embeddings to compute (roughly 60 min, " in forecast(
        more, dataset, tmp_path
    )


def test_fits_take_what_earlier_fits_took(
    study_file, dataset: Manifest, tmp_path: Path
) -> None:
    """By head, columns and rows of the runs in the reports, whatever their dataset."""
    width = backbones.resolve("border").row.dim
    shared = {"n_images": 36, "features": [{"dim": width}], "views": 0}
    for head, seconds in (("logreg", 60.0), ("majority", 0.0)):
        took = {"fit_seconds": seconds, "fold_seconds": [seconds] * 2}
        head_is = HeadOptions().describe(head, [width]).to_json()
        took |= {"predict_seconds": 0.0, "head_is": head_is}
        make_run(tmp_path / "other", head, head=head, **took, **shared)
    study = studies.read(study_file(TEXT))
    text = forecast(study, dataset, tmp_path, jobs=2)
    assert text.endswith("at most 8 fits of heads to do (about 2 min)")
    more = studies.read(study_file(TEXT.replace('"majority"', '"svm"')))
    text = forecast(more, dataset, tmp_path, jobs=2)
    assert text.endswith("at most 8 fits of heads to do (more than 2 min)")


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
    """By the minutes of an epoch; a network that was never trained is timed later."""
    block = '[[finetune]]\nbackbones = ["vgg19"]\nweights = "random"\nepochs = 5\n'
    study = studies.read(study_file(f"{TEXT}{block}folds = 2\n"))
    told = forecast(study, dataset, tmp_path)
    assert told.endswith(
        "1 network to fine-tune, unless done (each is timed as it starts)"
    )
    trained = {"trainings": [{"fold": -1, "epochs": 4, "minutes": 2.0}]}
    vgg19 = {"backbone": "vgg19", "features": [{"input_size": 224}]}
    make_run(tmp_path / "other", "a", head="finetune", n_images=18, **trained, **vgg19)
    told = forecast(study, dataset, tmp_path)
    assert told.endswith("1 network to fine-tune, unless done (at most 15 min)")
