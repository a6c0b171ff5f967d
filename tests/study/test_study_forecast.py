"""A study says what it will compute before it starts."""

from featcache import backbones
from featcache import study as studies
from featcache.commands.extract import extract
from featcache.core.io import read_json, write_json
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


def test_rows_time_disk_and_fits_are_told(study_file, dataset: Manifest) -> None:
    """At first there is a guess; what is stored is not counted; then it is measured."""
    study = studies.read(study_file(TEXT))
    text = forecast(study, dataset)
    assert "36 images; 36 embeddings to compute (a guess: 1 s, 0.1 MiB of" in text
    assert text.endswith("at most 8 fits of heads")
    extract(dataset, [backbones.resolve("border")])
    assert forecast(study, dataset) == "36 images; at most 8 fits of heads"
    (path,) = dataset.folder.glob("extract-*.json")
    record = read_json(path)
    record["stores"][0] |= {"seconds": 3600.0}
    write_json(path, record)
    more = studies.read(study_file(TEXT.replace('border"]', 'border"]\nviews = 1')))
    assert "36 embeddings to compute (roughly 60 min, " in forecast(more, dataset)
