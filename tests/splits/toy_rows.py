"""Images with labels and groups to be split, made by hand or drawn."""

from hypothesis import settings
from hypothesis import strategies as st

rule = settings(max_examples=60, deadline=None, derandomize=True, database=None)

Rows = list[tuple[str, str, str]]  # (image_id, label, group)


def columns(rows: Rows) -> tuple[list[str], list[str], list[str]]:
    ids, labels, groups = zip(*rows, strict=True)
    return list(ids), list(labels), list(groups)


def singles(per_class: dict[str, int], start: int = 0) -> Rows:
    """Images that are each a group of their own."""
    return [
        (f"{label}{i}", label, f"g-{label}{i}")
        for label, count in per_class.items()
        for i in range(start, start + count)
    ]


@st.composite
def datasets(draw: st.DrawFn) -> tuple[Rows, int, float]:
    """Groups of 1 to 5 images, some of several classes; folds; test share."""
    folds = draw(st.integers(2, 4))
    test_size = draw(st.sampled_from([0.0, 0.02, 0.2, 0.6]))
    classes = "ABC"[: draw(st.integers(2, 3))]
    label = st.sampled_from(classes)
    mixed = draw(st.lists(st.lists(label, min_size=1, max_size=4), max_size=8))
    pure = [
        [name] * draw(st.integers(1, 5))
        for name in classes
        for _ in range(folds + (test_size > 0) + draw(st.integers(0, 4)))
    ]
    rows = [
        (f"i{g}-{n}", name, f"g{g}")
        for g, group in enumerate(pure + mixed)
        for n, name in enumerate(group)
    ]
    return rows, folds, test_size


TEN = singles({"A": 10, "B": 10})
