"""What the heads of a study are trained on: the study decides, not the stores."""

from typing import Any

from featcache.study.base import Source, Study, Train


def training_rows(
    study: Study, block: Train, feature_set: tuple[Source, ...]
) -> dict[str, Any]:
    """Which rows and columns of a set's stores: arguments of ``train_head``.

    Returns:
        ``views``, ``policy``, ``taps``, ``region`` and ``mask``.
    """
    views, taps = block.settings.get("views", "all"), block.settings.get("taps")
    extracts = {each.name: each for each in study.extracts}
    steps = [extracts[source.extract] for source in feature_set]
    if isinstance(views, str):
        views = min(each.views for each in steps)
    if taps == "all":
        pairs = zip(steps, feature_set, strict=True)
        taps = [tap for each, source in pairs for tap in each.taps(source.network)]
    if not isinstance(taps, str):
        taps = ",".join(dict.fromkeys(taps or ())) or "none"
    policy = steps[0].policy
    return {
        "views": views,
        "policy": policy if views else None,
        "taps": taps,
        "region": policy.region.kind,
        "mask": policy.region.mask,
    }
