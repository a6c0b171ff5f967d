"""One outer fold by AutoGluon; run by heads_others.py in an environment that has it.

    VENV/bin/python benchmarks/heads_autogluon.py IN.npz OUT.npz PRESET SECONDS

With bagging (`good_quality` and above) the inner folds are five over whole patients,
by AutoGluon's `groups`. `medium_quality` has no bagging, and takes no groups.
"""

import json
import sys
import tempfile
from importlib import metadata

import numpy as np
import pandas as pd
from measurements import Clock, version


def main() -> None:
    """Fits, predicts and prints seconds as JSON."""
    request, answer, preset, limit = sys.argv[1:]
    from autogluon.tabular import TabularPredictor
    from sklearn.model_selection import StratifiedGroupKFold

    data = np.load(request)
    columns = [f"f{i}" for i in range(data["X"].shape[1])]
    table = pd.DataFrame(data["X"], columns=columns).assign(label=data["y"])
    groups: dict[str, str] = {}
    words: dict[str, bool] = {}
    if preset != "medium_quality":
        folds = StratifiedGroupKFold(5, shuffle=True, random_state=0)
        parts = folds.split(data["X"], data["y"], data["groups"])
        table["inner"] = -1
        for number, (_, rows) in enumerate(parts):
            table.loc[rows, "inner"] = number
        groups["groups"] = "inner"
        # Its search for overfitting by stacking holds out rows and not patients.
        words["dynamic_stacking"] = False
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        predictor = TabularPredictor(
            label="label", eval_metric="log_loss", path=folder, verbosity=1, **groups
        )
        predictor.fit(table, presets=preset, time_limit=float(limit), **words)
        held_out = pd.DataFrame(data["held_out"], columns=columns)
        P = predictor.predict_proba(held_out)[sorted(np.unique(data["y"]))]
        seconds, cpu = clock.seconds, clock.cpu
        models = predictor.leaderboard(silent=True)["model"].tolist()
    np.savez(answer, P=P.to_numpy())
    names = ("lightgbm", "catboost", "xgboost-cpu", "torch", "fastai", "scikit-learn")
    versions = [f"autogluon.tabular {metadata.version('autogluon.tabular')}"]
    versions += [f"{name} {version(name)}" for name in names]
    result = {"seconds": seconds, "cpu": cpu, "models": models}
    print(json.dumps(result | {"versions": " ".join(versions)}))


if __name__ == "__main__":
    main()
