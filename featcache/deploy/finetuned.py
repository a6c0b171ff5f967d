"""Fine-tuned runs: the whole network, from pixels to probabilities."""

from typing import TYPE_CHECKING, Any

from featcache.backbones.engines.base import Engine
from featcache.core import keras_file
from featcache.core.tf import tensorflow
from featcache.deploy.model import PROBABILITIES
from featcache.errors import RunError
from featcache.evaluation.record import FINETUNED
from featcache.evaluation.runs import Run
from featcache.features.store import FEATURES

if TYPE_CHECKING:
    import keras

_BATCH = 32


def is_finetuned(run: Run) -> bool:
    """Whether a run is a fine-tuned network."""
    return run.record.head_is.head == FINETUNED


def load_network(run: Run) -> "keras.Model":
    """The network of a run, trained on all of its training set.

    Raises:
        RunError: Its file is gone, was changed, or is not safe to read.
    """
    path = run.folder / str(run.record.model)
    if not path.is_file():
        raise RunError(f"the network of {run.run_id}", f"no {path}", "Train it again.")
    tensorflow()
    import keras

    try:
        keras_file.refuse_unsafe(run.file(path.name))
        return keras.models.load_model(path, compile=False, safe_mode=True)
    except (ValueError, OSError, TypeError, KeyError) as error:
        got = " ".join(str(error).split())[:300]
        raise RunError(
            f"the network of {run.run_id}", got, "Train it again."
        ) from error


def pooling_of(model: "keras.Model") -> Any:
    """The last layer that averages maps into an embedding; None without one."""
    pooling = [
        layer
        for layer in model.layers
        if type(layer).__name__ == "GlobalAveragePooling2D"
        and len(layer.output.shape) == 2
    ]
    return pooling[-1] if pooling else None


def graph_of(model: "keras.Model") -> "keras.Model":
    """From pixels to its probabilities and, if it has one, its embedding."""
    import keras

    outputs = {PROBABILITIES: model.output}
    if (pooling := pooling_of(model)) is not None:
        outputs[FEATURES] = pooling.output
    return keras.Model(model.input, outputs)


def engine_of(run: Run) -> Engine:
    """What runs a fine-tuned network: TensorFlow, in which it was trained."""
    from featcache.backbones.engines.tensorflow import TensorFlowEngine

    return TensorFlowEngine(graph_of(load_network(run)), batch_size=_BATCH)
