"""From a trained model to the graphs of its networks."""

from dataclasses import replace

from featcache.backbones import Network, Preprocess
from featcache.backbones.graphs import pixels, reading
from featcache.deploy import finetuned
from featcache.deploy.graph.networks import (
    CarriedNetwork,
    NetworkGraph,
    PixelGraph,
    refuse_int8,
)
from featcache.deploy.graph.whole import ModelParts
from featcache.deploy.model import FeatureNetwork, Model
from featcache.errors import ExportError, StoreError
from featcache.features.contract import Contract
from featcache.features.store import FEATURES


def parts_of(model: Model) -> ModelParts:
    """Builds the networks of a model that heads look at, each once.

    They are built in Keras, but for those that a bundle carries, and those in ONNX and
    OpenVINO files.

    Raises:
        ExportError: A network is a baseline, or runs in 8 bits and is not carried, or
            takes batches of one size alone; or a member averages over augmented views.
        StoreError: The weights of a network are not those of its features.
        WeightsError: The weights of a network cannot be had.
    """
    used = sorted({number for one in model.members for number, _ in one.columns})
    graphs = [_graph(model.networks[number]) for number in used]
    members = [
        replace(one, columns=tuple((used.index(n), name) for n, name in one.columns))
        for one in model.members
    ]
    return ModelParts(model.classes, graphs, members, model.weights, model.calibrator)


def _graph(network: FeatureNetwork) -> NetworkGraph:
    if network.carried:
        return CarriedNetwork(network)
    if network.run is not None:
        graph = finetuned.graph_of(finetuned.load_network(network.run))
        return PixelGraph(graph, resizing=network.resize)
    assert network.network
    assert network.contract
    if network.network.is_graph:
        return _in_openvino(network, network.network, network.contract)
    taps = [name for name in network.outputs if name != FEATURES]
    return PixelGraph.of(network.network, network.contract, taps)


def _in_openvino(
    features: FeatureNetwork, network: Network, contract: Contract
) -> CarriedNetwork:
    """A network in a file that OpenVINO reads."""
    refuse_int8(network, contract)
    digest = reading.weights_digest(network)
    if contract.weights_digest not in (None, digest):
        raise StoreError(
            f"the weights {contract.weights_digest[:8]} of the stored features of "
            f"{network.text}",
            f"{digest[:8]} in {network.file}",
            "Name the original weights file, or extract and train again.",
        )
    taps = [name for name in features.outputs if name != FEATURES]
    statistics = Preprocess.from_statistics(contract.statistics)
    model = pixels.with_pixels(network, taps=taps, statistics=statistics)
    if not model.input().partial_shape[0].is_dynamic:
        raise ExportError(
            f"{network.name} as a network for batches of any size",
            "one that was exported for a fixed number of images",
            "Export it again with a free batch size.",
        )
    return CarriedNetwork(replace(features, carried=lambda: model))
