"""From a trained model to the Keras graphs of its networks."""

from dataclasses import replace

from featcache.deploy import finetuned
from featcache.deploy.graph.whole import ModelParts, PixelGraph
from featcache.deploy.model import FeatureNetwork, Model
from featcache.errors import ExportError
from featcache.features.store import FEATURES


def parts_of(model: Model) -> ModelParts:
    """Builds the networks of a run's model in Keras, each that a head looks at.

    Raises:
        ExportError: A network is a baseline or runs in 8 bits; or the model is that of
            a bundle, which carries converted networks.
        WeightsError: The weights of a network cannot be had.
    """
    used = sorted({number for one in model.members for number, _ in one.columns})
    graphs = [_graph(model.networks[number]) for number in used]
    members = [
        replace(one, columns=tuple((used.index(n), name) for n, name in one.columns))
        for one in model.members
    ]
    return ModelParts(model.classes, graphs, members, model.weights, model.calibrator)


def _graph(network: FeatureNetwork) -> PixelGraph:
    if network.run is not None:
        whole = finetuned.graph_of(finetuned.load_network(network.run))
        return PixelGraph(whole)
    if network.network is None or network.store is None:
        raise ExportError(
            "a run, whose networks can be built again",
            f"a bundle, which has {network.name} as OpenVINO runs it",
            "Export the run that it was made of.",
        )
    taps = [name for name in network.outputs if name != FEATURES]
    return PixelGraph.of(network.network, network.store.header.contract, taps)
