"""Features of images with AUCMEDI; run by extract.py in an environment that has it.

    VENV/bin/python benchmarks/extract_aucmedi.py ARCHITECTURE WORKERS PATHS

AUCMEDI trains classifiers and stores no features: its DataGenerator feeds its network,
which is cut behind its pooling, and the features are kept in memory. PATHS is a JSON
file with a list of images. Prints seconds, CPU seconds and some features as JSON.
"""

import json
import os
import sys
from importlib import metadata
from pathlib import Path

from measurements import Clock, peak_mib

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


def main() -> None:
    """Measures once."""
    architecture, workers, paths = sys.argv[1:]
    import keras
    from aucmedi import DataGenerator, NeuralNetwork

    samples = json.loads(Path(paths).read_text())
    clock = Clock()
    keras.utils.set_random_seed(0)
    network = NeuralNetwork(n_labels=3, channels=3, architecture=f"2D.{architecture}")
    pooled = network.model.get_layer("avg_pool").output
    model = keras.Model(network.model.input, pooled)
    ready = clock.seconds
    generator = DataGenerator(
        samples,
        "",
        labels=None,
        resize=network.meta_input,
        standardize_mode=network.meta_standardize,
        workers=int(workers),
    )
    features = model.predict(generator, verbose=0)
    assert len(features) == len(samples)
    names = ("aucmedi", "tensorflow", "keras", "albumentations", "numpy")
    seconds = clock.seconds
    result = {
        "seconds": seconds,
        "steady": seconds - ready,
        "cpu": clock.cpu,
        "peak_mib": peak_mib(),
        "features": features[:16].tolist(),
        "versions": " ".join(f"{name} {metadata.version(name)}" for name in names),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
