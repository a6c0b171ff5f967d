"""Studies: scan, extract, train, ensembles and compare in one TOML file."""

from featcache.study.base import Ensemble, Extract, Source, Study, Train
from featcache.study.reading import read
from featcache.study.running import StudyResult, run
from featcache.study.steps import steps

__all__ = [
    "Ensemble",
    "Extract",
    "Source",
    "Study",
    "StudyResult",
    "Train",
    "read",
    "run",
    "steps",
]
