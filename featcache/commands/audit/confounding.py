"""FC030 to FC032: the origin of an image predicts its class."""

import re
from collections.abc import Sequence
from pathlib import PurePosixPath
from weakref import WeakKeyDictionary

import numpy as np
import pandas as pd

from featcache.commands.audit.base import (
    Answer,
    Check,
    NotApplicable,
    Row,
    behind_colon,
    conclude,
    of_all,
)
from featcache.commands.audit.context import AuditContext, right, usual
from featcache.core.text import counted
from featcache.dataset.manifest import COLUMNS
from featcache.dataset.own_split import is_split
from featcache.evaluation import metrics

NONE, RARE = "(none)", "(all others)"
MOST_VALUES, LEAST_IMAGES = 20, 10  # of a column; of a value
MANY = 20  # images of a value that is evaluated alone
STRONG = 0.3  # Cramér's V: Cohen's medium effect for two classes (1988)
LEVEL, DRAWS = 0.05, 999
BY_CHANCE = 0.001
LOWER = 0.1  # accuracy below that of all images
_columns = WeakKeyDictionary[AuditContext, dict[str, pd.Series]]()
_KEPT_OUT = ("mask", "lesion")
# A column so named is a source, also where each of its values has one class.
SOURCE_NAME = re.compile(
    r"hospital|clinic|institut|cent(er|re)|site|source|origin|database|data_?set"
    r"|scanner|device|manufacturer|vendor|country|city|ward",
    re.IGNORECASE,
)


def columns(context: AuditContext) -> dict[str, pd.Series]:
    """Columns of few values that may say where an image comes from.

    The source's own columns, the file's mode, and made of the rest: type, folder and
    pattern of the file name, and quarters of its area. What is the label in other
    words, or the group, is none, unless its name says that it is a source; a published
    split is none; a folder that is a class is left out of its path.
    """
    if context not in _columns:  # several checks need them
        _columns[context] = _few_valued(context)
    return _columns[context]


def _few_valued(context: AuditContext) -> dict[str, pd.Series]:
    table = context.images
    own = [c for c in table if c == "mode" or c not in (*COLUMNS, *_KEPT_OUT)]
    by_name = {
        str(c): few(table[c]) for c in own if not _same(table[c], table["group"])
    }
    paths = [PurePosixPath(path) for path in table["path"]]
    classes = context.manifest.classes
    area = (table["width"].astype(float) * table["height"]).astype(str)
    made = {
        "file type": pd.Series([path.suffix.lower() for path in paths]),
        "folder": pd.Series([folder(path, classes) for path in paths]),
        "file name pattern": pd.Series([pattern(path.stem, classes) for path in paths]),
        "image area": area,
    }
    by_name |= {name: few(values) for name, values in made.items()}
    return {
        name: values
        for name, values in by_name.items()
        if 2 <= values.nunique() <= MOST_VALUES
        and not is_split(name, values[values != NONE])
        and (SOURCE_NAME.search(name) or not _same(values, table["label"]))
    }


def folder(path: PurePosixPath, classes: Sequence[str] = ()) -> str:
    """The folder of a file without those in it that are named as a class."""
    names = {name.casefold() for name in classes}
    parts = [part for part in path.parent.parts if part.casefold() not in names]
    return PurePosixPath(*parts).as_posix()


def few(values: pd.Series) -> pd.Series:
    """A column with few values: numbers in quarters, rare texts together."""
    values = values.astype(str).str.strip().replace("", NONE).reset_index(drop=True)
    if values.nunique() <= MOST_VALUES:
        return values
    numbers = pd.to_numeric(values, errors="coerce")
    if numbers[values != NONE].notna().mean() > 0.9:
        cut = pd.qcut(numbers, 4, duplicates="drop").astype(object)
        texts = pd.Series(cut).map(_range, na_action="ignore")
        return texts.where(numbers.notna(), NONE).astype(str)
    counts = values.map(values.value_counts())
    return values.where(counts >= LEAST_IMAGES, RARE)


def _range(interval: pd.Interval) -> str:
    """Above the lower end, to the upper one."""
    return f"{interval.left:.10g} to {interval.right:.10g}"


def pattern(stem: str, classes: Sequence[str] = ()) -> str:
    """A file name's form: 9 for digits, a for letters, x for both; signs stay.

    The name of a class becomes a sign: that it is there says nothing of a source.
    """
    for name in sorted(classes, key=len, reverse=True):
        stem = re.sub(re.escape(name), "=", stem, flags=re.IGNORECASE)

    def form(match: re.Match[str]) -> str:
        text = match[0]
        return "9" if text.isdigit() else "a" if text.isalpha() else "x"

    return re.sub(r"[^\W_]+", form, stem)


def cramers_v(table: np.ndarray) -> float:
    """Cramér's V of a table of counts, corrected for bias (Bergsma 2013); 0 to 1."""
    table = table[table.sum(axis=1) > 0][:, table.sum(axis=0) > 0]
    count, (rows, cols) = table.sum(), table.shape
    if min(rows, cols) < 2 or count < 2:
        return 0.0
    expected = np.outer(table.sum(axis=1), table.sum(axis=0)) / count
    phi2 = float((np.square(table - expected) / expected).sum() / count)
    phi2 = max(phi2 - (rows - 1) * (cols - 1) / (count - 1), 0.0)
    sides = [k - (k - 1) ** 2 / (count - 1) for k in (rows, cols)]
    return float(np.sqrt(phi2 / max(min(sides) - 1, 1e-9)))


def permuted(
    values: pd.Series, labels: pd.Series, groups: pd.Series, *, seed: int = 0
) -> tuple[float, float]:
    """How well a column tells the class over groups, and the p-value.

    Each group counts once, with its most frequent value and class; the classes are
    permuted between groups (Phipson and Smyth 2010 for the p-value).

    Returns:
        Cramér's V, and the share of permutations that reach it.
    """
    v, names = pd.factorize(usual(values, groups))
    y, classes = pd.factorize(usual(labels, groups))

    def of(order: np.ndarray) -> float:
        cells = np.bincount(
            v * len(classes) + order, minlength=len(names) * len(classes)
        )
        return cramers_v(cells.reshape(len(names), -1))

    here, rng = of(y), np.random.default_rng(seed)
    reached = sum(of(rng.permutation(y)) >= here - 1e-12 for _ in range(DRAWS))
    return here, (reached + 1) / (DRAWS + 1)


def _some_columns(context: AuditContext) -> dict[str, pd.Series]:
    by_name = columns(context)
    if not by_name:
        raise NotApplicable("No column has few values and differs from the label.")
    return by_name


def _tells(context: AuditContext) -> Answer:
    table, by_name = context.images, _some_columns(context)
    rows: list[Row] = []
    for name, values in by_name.items():
        v, p = permuted(values, table["label"], table["group"])
        rows.append({"column": name, "v": v, "p": p, "values": int(values.nunique())})
    for row, p in zip(rows, metrics.holm([r["p"] for r in rows]), strict=True):
        row |= {"p_holm": p, "strong": row["v"] >= STRONG and p < LEVEL}
    rows.sort(key=lambda row: -row["v"])
    strong = [f"{r['column']} ({r['v']:.2f})" for r in rows if r["strong"]]
    return conclude(
        bool(strong),
        of_all(len(strong), len(rows), "columns", "predicts", "predict")
        + f" the class (Cramér's V over groups of at least {STRONG})"
        + behind_colon(strong, 6),
        rows,
    )


def _alone(context: AuditContext) -> Answer:
    table, by_name = context.images, _some_columns(context)
    rows: list[Row] = []
    shares = table.groupby("label")["group"].nunique() / table["group"].nunique()
    for name, values in by_name.items():
        for value, of in table.groupby(values):
            groups, label = of["group"].nunique(), of["label"].iloc[0]
            chance = float(min(shares[label], 1.0) ** groups)
            if len(of) >= MANY and of["label"].nunique() == 1 and chance < BY_CHANCE:
                rows.append({"column": name, "value": str(value), "class": label,
                             "images": len(of), "groups": groups,
                             "chance": chance})  # fmt: skip
    rows.sort(key=lambda row: -row["images"])
    examples = [
        f"{r['column']} = {r['value']} ({r['images']} {r['class']})" for r in rows
    ]
    return conclude(
        bool(rows),
        f"{counted(len(rows), 'value')} with at least {MANY} images "
        f"{'contains' if len(rows) == 1 else 'contain'} a single class"
        + behind_colon(examples, 4),
        rows,
    )


def _accuracy(context: AuditContext) -> Answer:
    if context.best is None:
        raise NotApplicable(f"No run of a network. Run: {context.train_command}")
    hits, table = right(context.best), context.predictions
    rows: list[Row] = []
    for name, values in columns(context).items():
        named = dict(zip(context.images["image_id"], values, strict=True))
        for value, at in table.groupby(table["image_id"].map(named)).indices.items():
            if len(at) < MANY:
                continue
            low, high = metrics.group_bootstrap(hits[at], table["group"].to_numpy()[at])
            rows.append({"column": name, "value": str(value), "images": len(at),
                         "accuracy": float(hits[at].mean()), "low": low, "high": high,
                         "worse": bool(high < hits.mean() - LOWER / 2
                                       and hits[at].mean() < hits.mean() - LOWER),
                         })  # fmt: skip
    rows.sort(key=lambda row: row["accuracy"])
    worse = [f"{r['column']} = {r['value']} ({r['accuracy']:.2f})"
             for r in rows if r["worse"]]  # fmt: skip
    return conclude(
        bool(worse),
        f"The accuracy of {context.best.run_id} is {hits.mean():.3f} overall, and "
        f"clearly lower in {len(worse)} of {counted(len(rows), 'source')}"
        + behind_colon(worse, 4),
        rows,
    )


def _same(values: pd.Series, others: pd.Series) -> bool:
    """Whether two columns are one in other words."""
    pairs = pd.DataFrame({"a": values.to_numpy(), "b": others.to_numpy()})
    pairs = pairs.drop_duplicates()
    return not (pairs["a"].duplicated().any() or pairs["b"].duplicated().any())


CHECKS = (
    Check("FC030", "Does a column predict the class?", "issue", _tells),
    Check("FC031", "Does a source have a single class?", "issue", _alone),
    Check("FC032", "Is the best run less accurate on a source?", "tip", _accuracy),
)
