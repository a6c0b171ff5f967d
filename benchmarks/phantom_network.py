"""Trains the network that `featcache demo` runs, and writes it into the package.

    python benchmarks/phantom_network.py

A small convolutional network learns the classes of generated chest phantoms, half of
them with large findings and half with small ones, and where these are, by the masks of
the lesions. The phantoms are of seeds that the demo does not draw unless asked to. The
network without its classifiers goes to featcache/study/phantom_net.keras, its
descriptor, with a canary, beside it. Prints the accuracy of the classifier of images on
phantoms of further seeds.

All is seeded: on one kind of machine and with the same versions a second call gives the
same network. That it tells phantoms apart says nothing about X-rays.
"""

import argparse
import json
import platform
from pathlib import Path
from typing import Any

import joblib
import keras
import numpy as np
import tensorflow as tf
from PIL import Image

import featcache
from featcache.backbones import canary, weights_digest
from featcache.dataset import phantom
from featcache.dataset.views import render

FOLDER = Path(featcache.__file__).parent / "study"
SIDE, GRID = 160, 20  # pixels of the input's side, cells of the map's
TRAIN_SEED, TEST_SEED = 7001, 7002
MAPS = (16, 32, 64, 64, 64)  # channels of each block; the first three halve the side
EPOCHS, BATCH, RATE = 20, 32, 2e-3


def sample(number: int, seed: int, *, small: bool) -> tuple[np.ndarray, np.ndarray]:
    """The phantom of a patient as the network sees it, and where its lesions are.

    Every other one is flipped: the demo's views are, too.

    Returns:
        (SIDE, SIDE, 1) uint8, and (GRID, GRID) shares of the cells.
    """
    label = phantom.CLASSES[number % len(phantom.CLASSES)]
    one = phantom.draw(label, number, seed=seed, small_lesions=small)
    pixels = render(Image.fromarray(one.image), SIDE)[..., :1]
    lesions = Image.fromarray(one.lesions.astype(np.float32))
    shares = np.asarray(lesions.resize((GRID, GRID), Image.Resampling.BOX))
    step = -1 if number % 2 else 1
    return pixels[:, ::step], shares[:, ::step]


def samples(
    count: int, seed: int, jobs: int, *, small: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pixels, classes (N,) and shares of lesions, one phantom a patient."""
    call = joblib.delayed(sample)
    pairs = joblib.Parallel(jobs)(call(n, seed, small=small) for n in range(count))
    pixels, shares = (np.stack(part) for part in zip(*pairs, strict=True))
    return pixels, np.arange(count) % len(phantom.CLASSES), shares


def network() -> keras.Model:
    """Blocks of convolution, normalisation and ReLU; ends with a map of GRID cells."""
    inputs = x = keras.Input((SIDE, SIDE, 1))
    for number, width in enumerate(MAPS):
        strides = 2 if number < 3 else 1
        conv = keras.layers.Conv2D(width, 3, strides, padding="same", use_bias=False)
        x = keras.layers.BatchNormalization()(conv(x))
        x = keras.layers.ReLU()(x)
    return keras.Model(inputs, x, name="phantom_net")


def trained(
    backbone: keras.Model, X: np.ndarray, y: np.ndarray, shares: np.ndarray
) -> keras.Model:
    """The network with a classifier of images, trained beside one of the map's cells.

    Args:
        backbone: The network.
        X: (N, SIDE, SIDE, 1) uint8.
        y: (N,) classes.
        shares: (N, GRID, GRID) of each cell that is lesion.
    """
    layers, classes = keras.layers, len(phantom.CLASSES)
    inputs = x = keras.Input((SIDE, SIDE, 1))
    x = layers.Rescaling(1 / 255)(x)
    x = layers.RandomBrightness(0.15, value_range=(0, 1))(x)
    x = layers.RandomContrast(0.3, value_range=(0, 1))(x)
    maps = backbone(layers.Rescaling(2, -1)(x))
    of_image = layers.Dense(classes)(layers.GlobalAveragePooling2D()(maps))
    of_cell = layers.Dense(classes)(maps)
    cells = np.eye(classes, dtype=np.float32)[y][:, None, None] * shares[..., None]
    cells[..., phantom.CLASSES.index("NORMAL")] = 1 - shares
    rate = keras.optimizers.schedules.CosineDecay(RATE, EPOCHS * -(-len(X) // BATCH))
    model = keras.Model(inputs, [of_image, of_cell])
    model.compile(
        keras.optimizers.AdamW(rate),
        [
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            keras.losses.CategoricalCrossentropy(from_logits=True),
        ],
        loss_weights=[1.0, 10.0],
    )
    model.fit(X, [y, cells], batch_size=BATCH, epochs=EPOCHS, verbose=2)
    return keras.Model(inputs, of_image)


def embedding(backbone: keras.Model) -> list[float]:
    """What Keras makes of the canary's picture."""
    pixels = render(canary.picture(), SIDE) / 127.5 - 1
    grey = pixels @ np.array([0.299, 0.587, 0.114])
    maps = backbone.predict(grey[None, ..., None], verbose=0)
    return [float(value) for value in maps.mean(axis=(1, 2))[0]]


def descriptor(backbone: keras.Model, accuracy: dict[str, float]) -> dict[str, Any]:
    """What is written beside the network."""
    versions = {"keras": keras.__version__, "tensorflow": tf.__version__}
    shares = [f"{100 * share:.1f} % of {name}" for name, share in accuracy.items()]
    return {
        "input_size": SIDE,
        "preprocess": "tf",
        "licence": "MIT",
        "source": (
            "benchmarks/phantom_network.py of featcache "
            f"{featcache.__version__}, seed {TRAIN_SEED}, numpy {np.__version__}, "
            f"{platform.machine()}. Trained on generated chest phantoms and the masks "
            f"of their lesions. Its classifier, which is not in the file, was right on "
            f"held-out phantoms: {', '.join(shares)}"
        ),
        "weights_digest": weights_digest(backbone),
        "canary": {
            "picture": canary.PICTURE,
            "input_size": SIDE,
            "embedding": embedding(backbone),
            "framework": versions,
        },
    }


def main() -> None:
    """Trains, measures and writes the network."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=1000, help="of each kind")
    parser.add_argument("--jobs", type=int, default=-1, help="processes that draw")
    parser.add_argument("--output", type=Path, default=FOLDER, help="a folder")
    options = parser.parse_args()
    keras.utils.set_random_seed(TRAIN_SEED)
    tf.config.experimental.enable_op_determinism()
    kinds = {"large findings": False, "small findings": True}
    sets = [
        samples(options.images, TRAIN_SEED, options.jobs, small=small)
        for small in kinds.values()
    ]
    backbone = network()
    model = trained(
        backbone, *(np.concatenate(part) for part in zip(*sets, strict=True))
    )
    accuracy = {}
    for name, small in kinds.items():
        X, y, _ = samples(300, TEST_SEED, options.jobs, small=small)
        right = model.predict(X, verbose=0).argmax(axis=1) == y
        accuracy[f"300 with {name}"] = float(right.mean())
    path = options.output / "phantom_net.keras"
    backbone.save(path)
    text = json.dumps(descriptor(backbone, accuracy), indent=2)
    path.with_suffix(".json").write_text(text + "\n", encoding="utf-8")
    for name, value in accuracy.items():
        print(f"{100 * value:.1f} % of {name}")
    print(f"{path}: {backbone.count_params()} parameters, {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
