"""What Keras' own networks are, read off them: for comparison with the table.

``python tests/keras_networks.py`` writes the facts of all networks anew, and of which
version of Keras they are.
"""

import gc
import importlib
import json
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from featcache.backbones import NETWORKS
from featcache.core.tf import tensorflow

FACTS = Path(__file__).with_suffix(".json")
VERSION = metadata.version("keras")
COLOURS = [[0, 0, 0], [50, 100, 200]]
# The smallest input that a network takes; the mobile ones ask for other weights or
# warn at any but their own size.
SIDE = dict.fromkeys(NETWORKS, 64) | {
    **dict.fromkeys(("inceptionv3", "inceptionresnetv2", "xception"), 75),
    **dict.fromkeys((name for name in NETWORKS if "mobilenet" in name), 224),
}


def build(name: str) -> tuple[Any, dict[str, Any]]:
    """Keras' own graph for the ImageNet weights; nothing is fetched or loaded.

    Returns:
        The graph to (N, D), and what Keras wanted: the files, each with its name,
        address and checksum, and the default sides.
    """
    tensorflow()
    import keras
    from keras.src.applications import imagenet_utils
    from keras.src.utils import file_utils

    files: list[list[str | None]] = []
    sides: list[int] = []
    shape = imagenet_utils.obtain_input_shape

    def get_file(name: str, url: str, *, file_hash: str | None = None, **_: Any) -> str:
        files.append([name, url, file_hash])
        return name

    def obtain_input_shape(*arguments: Any, **options: Any) -> Any:
        sides.append(options["default_size"])
        return shape(*arguments, **options)

    factory = getattr(keras.applications, NETWORKS[name].factory)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(file_utils, "get_file", get_file)
        patch.setattr(imagenet_utils, "obtain_input_shape", obtain_input_shape)
        patch.setattr(keras.Model, "load_weights", lambda *_, **__: None)
        shape_of_input = (SIDE[name], SIDE[name], 3)
        model = factory(include_top=False, input_shape=shape_of_input, pooling="avg")
    return model, {"files": files, "sides": sides}


def preprocess(name: str, pixels: np.ndarray) -> np.ndarray:
    """Keras' own input scaling of the network, of pixels (..., 3) from 0 to 255."""
    module = importlib.import_module(f"keras.applications.{NETWORKS[name].module}")
    return np.asarray(module.preprocess_input(pixels.astype("float32")), float)


def facts(name: str) -> dict[str, Any]:
    """All that the table says of a network, as Keras has it.

    ``taps`` are those of the table that the graph has, with the width of their maps;
    ``channel_scales`` are factors a channel inside the graph.
    """
    import keras

    model, wanted = build(name)
    layers = {layer.name: layer for layer in model._flatten_layers()}
    scales = [x.scale for x in layers.values() if isinstance(x, keras.layers.Rescaling)]
    maps = {
        tap: layers[tap].output.shape
        for tap in NETWORKS[name].taps
        if tap in layers and len(layers[tap].output.shape) == 4
    }
    return wanted | {
        "width": model.output_shape[-1],
        "taps": {tap: shape[-1] for tap, shape in maps.items()},
        "preprocessed": preprocess(name, np.array(COLOURS)).round(4).tolist(),
        "channel_scales": [np.round(s, 4).tolist() for s in scales if np.size(s) > 1],
    }


def forget() -> None:
    """Frees what was built: the large networks take gigabytes."""
    import keras

    keras.backend.clear_session()
    gc.collect()


def main() -> None:
    """Writes the facts of all networks, each on a line."""
    lines = [f'"keras": "{VERSION}"']
    for name in NETWORKS:
        lines.append(f'"{name}": {json.dumps(facts(name))}')
        forget()
    FACTS.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
