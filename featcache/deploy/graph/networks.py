"""The networks of a model: as Keras graphs, or as a bundle carries them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, Self

import numpy as np

from featcache.backbones import Network, Preprocess, with_pixels
from featcache.backbones.engines import openvino
from featcache.backbones.engines.convert import checked_build
from featcache.backbones.engines.tensorflow import TensorFlowEngine
from featcache.dataset.views import Resize
from featcache.deploy.model import FeatureNetwork
from featcache.errors import ExportError
from featcache.features.contract import Contract

if TYPE_CHECKING:
    import keras

_BATCH = 16
Pixels = Mapping[Resize, np.ndarray]  # (N, S, S, 3) uint8 by how they were resized
Outputs = dict[str, np.ndarray]


class NetworkGraph(Protocol):
    """A network whose outputs heads look at.

    Attributes:
        dtype: In which its outputs are stored, and so rounded: float32 or float16.
        resize: How images are brought to the size of its input.
        widths: Columns of each of its outputs.
    """

    @property
    def dtype(self) -> str: ...  # noqa: D102
    @property
    def resize(self) -> Resize: ...  # noqa: D102
    @property
    def widths(self) -> Mapping[str, int]: ...  # noqa: D102

    def embed(self, pixels: np.ndarray) -> Outputs:
        """Its outputs (N, width) float32, rounded as they are stored.

        Args:
            pixels: (N, S, S, 3) uint8.
        """

    def converted(self) -> Any:
        """A model of OpenVINO with one input, whose results bear the outputs' names."""


@dataclass(frozen=True, eq=False)
class PixelGraph:
    """A network as a Keras graph; see `NetworkGraph`.

    Attributes:
        model: From (N, S, S, 3) uint8 pixels to a dictionary of outputs (N, width),
            as ``backbones.with_pixels`` gives it.
        dtype: In which its outputs are stored.
        resizing: How images are brought to its input; None: both sides exactly.
    """

    model: "keras.Model"
    dtype: str = "float32"
    resizing: Resize | None = None

    @classmethod
    def of(cls, network: Network, contract: Contract, taps: Sequence[str] = ()) -> Self:
        """Builds a network as its stored features were made.

        Args:
            network: The network.
            contract: That of its features.
            taps: Outputs beside the embedding, as "layer" or "layer:max".

        Raises:
            ExportError: There is no network, or it was run in 8 bits.
            StoreError: Its weights are not those of the contract.
            WeightsError: The weights cannot be had or do not fit.
        """
        if network.is_baseline:
            raise ExportError(
                "a model with a network",
                f"the baseline {network.name}, which measures the image in Python",
                "Export a run on a backbone.",
            )
        refuse_int8(network, contract)
        statistics = Preprocess.from_statistics(contract.statistics)
        core = checked_build(network, contract)
        graph = with_pixels(core, network, taps=taps, statistics=statistics)
        return cls(graph, contract.dtype or "float32", network.resize)

    @property
    def resize(self) -> Resize:  # noqa: D102
        return self.resizing or Resize(int(self.model.input_shape[1]))

    @property
    def widths(self) -> dict[str, int]:  # noqa: D102
        return {name: int(x.shape[1]) for name, x in self.model.output.items()}

    def embed(self, pixels: np.ndarray) -> Outputs:  # noqa: D102
        engine = TensorFlowEngine(self.model, batch_size=_BATCH)
        batches = (pixels[at : at + _BATCH] for at in range(0, len(pixels), _BATCH))
        results = list(engine.run(batches))
        return {
            name: np.concatenate([result[name] for result in results])
            .astype(self.dtype)
            .astype(np.float32)
            for name in results[0]
        }

    def converted(self) -> Any:  # noqa: D102
        return openvino.converted_network(self.model)


def refuse_int8(network: Network, contract: Contract) -> None:
    """Refuses a network that was run in 8 bits.

    Raises:
        ExportError: Says what can be exported instead.
    """
    if contract.precision == "int8":
        raise ExportError(
            "features of a network in float32",
            f"int8 features of {network.name}: OpenVINO's quantised network is "
            "the only one that gives them",
            "Make a bundle of the run and export that with `to='openvino'`, or "
            "extract with `precision='float32'` and train on that.",
        )


@dataclass(frozen=True, eq=False)
class CarriedNetwork:
    """A network that is there in OpenVINO's format alone; see `NetworkGraph`.

    Attributes:
        network: The network, with ``carried``.
    """

    network: FeatureNetwork

    @property
    def dtype(self) -> str:  # noqa: D102
        return self.network.dtype

    @property
    def resize(self) -> Resize:  # noqa: D102
        return self.network.resize

    @property
    def widths(self) -> dict[str, int]:  # noqa: D102
        return dict(zip(self.network.outputs, self.network.widths, strict=True))

    def embed(self, pixels: np.ndarray) -> Outputs:  # noqa: D102
        return self.network.embed(pixels)

    def converted(self) -> Any:  # noqa: D102
        assert self.network.carried
        return self.network.carried()
