"""From a trained model to the graphs of its networks."""

from dataclasses import replace

from featcache.deploy import finetuned
from featcache.deploy.graph.networks import (
    CarriedNetwork,
    NetworkGraph,
    PixelGraph,
)
from featcache.deploy.graph.whole import ModelParts
from featcache.deploy.model import FeatureNetwork, Model
from featcache.features.store import FEATURES


def parts_of(model: Model) -> ModelParts:
    """Builds the networks of a model that heads look at, each once.

    They are built in Keras, but for those that a bundle carries.

    Raises:
        ExportError: A network is a baseline, or runs in 8 bits and is not carried; or
            a member averages over augmented views.
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
        return PixelGraph(finetuned.graph_of(finetuned.load_network(network.run)))
    assert network.network
    assert network.contract
    taps = [name for name in network.outputs if name != FEATURES]
    return PixelGraph.of(network.network, network.contract, taps)
