"""Studies: scan, extract, train, ensembles and compare in one TOML file."""

from featcache.study.base import Ensemble, Extract, Source, Study, Train
from featcache.study.dry_run import steps
from featcache.study.parser import read
from featcache.study.runner import StudyResult, run

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
