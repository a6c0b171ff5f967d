"""Names of taps: a layer whose map is pooled, and how."""

FEATURES = "features"  # the embedding; in the names of taps, the last map
AVG, MAX, GEM = "avg", "max", "gem"
POOLING_NAMES = (AVG, MAX, GEM, "grid2", "grid3")


def tap_name(layer: str, pooling: str) -> str:
    """What a pooled layer is called: "conv4" for avg, else such as "conv4:max"."""
    return layer if pooling == AVG else f"{layer}:{pooling}"


def split_tap(tap: str) -> tuple[str, str]:
    """The layer and the pooling of a tap; the layer "features" is the last map."""
    layer, _, pooling = tap.rpartition(":")
    return (layer, pooling) if layer and pooling in POOLING_NAMES else (tap, AVG)
