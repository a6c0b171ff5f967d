"""featcache: run a frozen backbone once, then compare heads in seconds."""

import importlib
import logging
from importlib import metadata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from featcache.api.bundles import bundle as bundle
    from featcache.api.bundles import verify_bundle as verify_bundle
    from featcache.api.curves import curve as curve
    from featcache.api.dataset import Dataset as Dataset
    from featcache.api.dataset import open as open
    from featcache.api.dataset import scan as scan
    from featcache.api.embedder import Embedder as Embedder
    from featcache.api.functions import audit as audit
    from featcache.api.functions import compare as compare
    from featcache.api.functions import ensemble as ensemble
    from featcache.api.functions import explain as explain
    from featcache.api.functions import extract as extract
    from featcache.api.functions import finetune as finetune
    from featcache.api.functions import train_head as train_head
    from featcache.api.pages import apply_reviews as apply_reviews
    from featcache.api.pages import retrain as retrain
    from featcache.api.pages import review_queue as review_queue
    from featcache.api.pages import review_status as review_status
    from featcache.api.pages import serve_bundles as serve_bundles
    from featcache.api.parts import Plan as Plan
    from featcache.api.parts import compute_part as compute_part
    from featcache.api.parts import plan_parts as plan_parts
    from featcache.api.parts import publish_parts as publish_parts
    from featcache.api.predictor import Predictor as Predictor
    from featcache.api.predictor import predict as predict
    from featcache.api.results import AuditResult as AuditResult
    from featcache.api.results import Curve as Curve
    from featcache.api.results import Explanation as Explanation
    from featcache.api.results import Leaderboard as Leaderboard
    from featcache.api.results import Run as Run
    from featcache.api.results import Runs as Runs
    from featcache.api.tools import doctor as doctor
    from featcache.api.tools import phantoms as phantoms
    from featcache.api.tools import run_study as run_study
    from featcache.api.validation import validate as validate
    from featcache.dataset.views import Policy as Policy
    from featcache.errors import FeatcacheError as FeatcacheError
    from featcache.features import Features as Features
    from featcache.features import load as load

_MODULES = {
    "api.bundles": ("bundle", "verify_bundle"),
    "api.curves": ("curve",),
    "api.dataset": ("Dataset", "open", "scan"),
    "api.embedder": ("Embedder",),
    "api.functions": (
        *("audit", "compare", "ensemble", "explain", "extract", "finetune"),
        "train_head",
    ),
    "api.pages": (
        *("apply_reviews", "retrain", "review_queue", "review_status", "serve_bundles"),
    ),
    "api.parts": ("Plan", "compute_part", "plan_parts", "publish_parts"),
    "api.predictor": ("Predictor", "predict"),
    "api.results": (
        *("AuditResult", "Curve", "Explanation", "Leaderboard", "Run", "Runs"),
    ),
    "api.tools": ("doctor", "phantoms", "run_study"),
    "api.validation": ("validate",),
    "dataset.views": ("Policy",),
    "errors": ("FeatcacheError",),
    "features": ("Features", "load"),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}

__all__ = ["__version__", *sorted(_MODULE_OF)]

logging.getLogger(__name__).addHandler(logging.NullHandler())


def __getattr__(name: str) -> Any:
    # Lazy, so that `import featcache` loads neither h5py nor pandas.
    if name == "__version__":
        return metadata.version("featcache")
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
