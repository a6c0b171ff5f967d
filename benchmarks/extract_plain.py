"""Extraction as one writes it by hand: with Keras, and with OpenVINO.

Both take the name of a network of `keras.applications`, with random weights, or a
`.keras` file that does its own scaling.
"""

import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from measurements import Clock

BATCH = 8  # images that OpenVINO takes at once
Pooled = tuple[Callable[[], Any], Callable[[Any], Any], int]


def resolve(name: str) -> Any:
    """A network of the table with random weights, or one in a file, as featcache's."""
    from featcache import backbones

    return backbones.resolve(
        name, backbones.IMAGENET if Path(name).suffix else "random"
    )


def pooled(name: str) -> Pooled:
    """How to build a network, its preprocessing, and the side of its input."""
    from featcache.core.tf import tensorflow

    tensorflow()
    import keras

    network = resolve(name)
    side, row = network.input_size, network.row
    if row is None:

        def load() -> Any:
            whole = keras.models.load_model(name, compile=False)
            vector = keras.layers.GlobalAveragePooling2D()(whole.output)
            return keras.Model(whole.input, vector)

        return load, lambda pixels: pixels, side

    module = import_module(f"keras.applications.{row.module}")

    def build() -> Any:
        keras.utils.set_random_seed(0)
        return getattr(module, row.factory)(
            include_top=False, weights=None, input_shape=(side, side, 3), pooling="avg"
        )

    return build, module.preprocess_input, side


def study(name: str, paths: list[Path]) -> dict[str, Any]:
    """What the study's notebooks do, with the features written to HDF5."""
    build, preprocess, side = pooled(name)
    import keras

    clock = Clock()
    model = build()
    ready = clock.seconds
    images = [
        keras.utils.img_to_array(
            keras.utils.load_img(
                path, target_size=(side, side), interpolation="bilinear"
            )
        )
        for path in paths
    ]
    X = preprocess(np.array(images))
    return measured(clock, ready, model.predict(X, batch_size=32, verbose=0))


def hand_openvino(name: str, paths: list[Path], work: Path) -> dict[str, Any]:
    """OpenVINO's queue of requests, fed by a pool of threads that decode.

    The network is converted beforehand, by the first call.
    """
    import openvino as ov
    from PIL import Image

    file = work / "by-hand" / f"{Path(name).stem}.xml"
    if not file.exists():
        ov.save_model(converted(name), file, compress_to_fp16=False)

    clock = Clock()
    core = ov.Core()
    model = core.read_model(file)
    side = model.input().partial_shape[1].get_length()
    model.reshape([BATCH, side, side, 3])
    hint = {"PERFORMANCE_HINT": "THROUGHPUT", "INFERENCE_PRECISION_HINT": "f32"}
    queue = ov.AsyncInferQueue(core.compile_model(model, "CPU", hint))
    features = np.empty((len(paths), model.output().shape[1]), np.float32)
    ready = clock.seconds

    def decode(start: int) -> tuple[int, np.ndarray]:
        pixels = np.zeros((BATCH, side, side, 3), np.uint8)
        for row, path in enumerate(paths[start : start + BATCH]):
            with Image.open(path) as image:
                small = image.convert("RGB").resize((side, side), Image.BILINEAR)
            pixels[row] = np.asarray(small)
        return start, pixels

    def keep(request: Any, start: int) -> None:
        rows = features[start : start + BATCH]
        rows[:] = request.get_output_tensor().data[: len(rows)]

    queue.set_callback(keep)
    with ThreadPoolExecutor() as pool:
        for start, pixels in pool.map(decode, range(0, len(paths), BATCH)):
            queue.start_async({0: pixels}, start)
    queue.wait_all()
    return measured(clock, ready, features)


def converted(name: str) -> Any:
    """A network as OpenVINO's, from pixels of any number of images to features."""
    import openvino as ov

    build, preprocess, side = pooled(name)
    import keras

    pixels = keras.Input((side, side, 3), dtype="uint8")
    scaled = preprocess(keras.ops.cast(pixels, "float32"))
    return ov.convert_model(keras.Model(pixels, build()(scaled)), share_weights=False)


def measured(clock: Clock, ready: float, features: np.ndarray) -> dict[str, Any]:
    """Writes features to HDF5; seconds, those after loading, and CPU seconds."""
    import h5py

    with (
        tempfile.TemporaryDirectory() as folder,
        h5py.File(Path(folder) / "features.h5", "w") as file,
    ):
        file["features"] = features
    seconds = clock.seconds
    return {
        "seconds": seconds,
        "steady": seconds - ready,
        "cpu": clock.cpu,
        "features": features[:16].tolist(),
    }
