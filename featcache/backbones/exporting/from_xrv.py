"""Networks of torchxrayvision, which take one grey channel from -1024 to 1024."""

from typing import Any

import numpy as np
from PIL import Image

from featcache.backbones.exporting import torch_graph
from featcache.backbones.exporting.original import (
    MAP,
    Original,
    Request,
    loading,
    quiet,
)
from featcache.backbones.exporting.torch_graph import Readout, Tensor
from featcache.core.versions import installed_versions
from featcache.errors import UsageError, WeightsError

PACKAGES = ("torch", "torchvision", "torchxrayvision", "onnx", "onnxscript")
_DENSENET, _RESNET = "densenet", "resnet"
_GREY = np.array([0.299, 0.587, 0.114], np.float32)  # BT.601
# Of Pillow's filters the nearest to the library's own resizing with scikit-image.
_INTERPOLATION = "hamming"


def load(request: Request) -> Original:
    """A classifier of torchxrayvision up to its pooled features.

    Args:
        request: The name is one of ``torchxrayvision.models.model_urls``, such as
            "densenet121-res224-all".

    Raises:
        WeightsError: No such network, or its weights cannot be had.
        UsageError: Another input size than its own, or a pooling that it has not.
    """
    with loading(f"xrv:{request.name}", random=request.random), quiet():
        import torchxrayvision

        side = _side(request, torchxrayvision.models.model_urls)
        model = _create(request, torchxrayvision.models)
    x = torch_graph.probe(1, side) * 400
    with quiet():
        if request.random:
            torch_graph.normalise(model, x)
        read = _inspect(model, request, x)
        return torch_graph.exportable(
            model, _forward, x, read, _pixel_keys(side) | _origin(request),
            tensor=lambda image: _transformed(image, side),
            scaled=_scaled,
            embed=lambda x: _numbers(model, x, read),
            framework=installed_versions(("torch", "torchxrayvision")),
            resizes_whole_greys=False,
        )  # fmt: skip


def _pixel_keys(side: int) -> dict[str, Any]:
    return {
        "input_size": side, "channels": 1, "resize": "shortest_edge",
        "resize_to": side, "interpolation": _INTERPOLATION, "antialias": True,
        "range": [-1024.0, 1024.0],
    }  # fmt: skip


def _side(request: Request, known: dict[str, Any]) -> int:
    if request.name not in known:
        names = sorted(name for name in known if "-res" in name)
        raise WeightsError(
            f"xrv:{request.name} is no network of torchxrayvision",
            f"Use one of {', '.join(names)}.",
        )
    side = 512 if request.name.startswith(_RESNET) else 224
    if request.input_size not in (None, side):
        raise UsageError(
            f"`input_size={side}` for xrv:{request.name}, which resizes all others",
            str(request.input_size),
            "Omit it.",
        )
    return side


def _create(request: Request, models: Any) -> Any:
    if not request.random:
        return models.get_model(request.name).eval()
    if request.name.startswith(_RESNET):
        raise UsageError(
            f"xrv:{request.name} with its weights: torchxrayvision does not build it "
            "without",
            "`random=True`",
            "Use a densenet121 for random weights.",
        )
    with torch_graph.seeded(request.seed):
        model = models.DenseNet(weights=None)
    torch_graph.enliven(model, request.seed)
    return model.eval()


def _transformed(image: Image.Image, side: int) -> np.ndarray:
    """The library's own: normalise, cut the central square, resize."""
    import torchxrayvision

    values = torchxrayvision.utils.normalize(_grey(np.asarray(image)), 255)[None]
    square = torchxrayvision.datasets.XRayCenterCrop()(values)
    return np.asarray(torchxrayvision.datasets.XRayResizer(side)(square))[None]


def _scaled(pixels: np.ndarray) -> np.ndarray:
    import torchxrayvision

    return np.asarray(torchxrayvision.utils.normalize(_grey(pixels), 255))[None, None]


def _grey(pixels: np.ndarray) -> np.ndarray:
    return pixels.astype(np.float32) @ _GREY if pixels.ndim == 3 else pixels


def _inspect(model: Any, request: Request, x: Tensor) -> Readout:
    import torch

    with torch.inference_mode():
        features = _forward(model, x)[MAP]
        return torch_graph.readout(features, _pooled(model, x), 0, request.pooling)


def _pooled(model: Any, x: Tensor) -> Tensor:
    """The library's own features."""
    own = model.features2 if hasattr(model, "features2") else model.features
    return own(x)


def _numbers(model: Any, x: np.ndarray, read: Readout) -> np.ndarray:
    def run(x: Tensor) -> Tensor:
        if read.pooling == "avg":
            return _pooled(model, x)
        return torch_graph.pooled(_forward(model, x)[read.kind], read.pooling, 0)

    with quiet():
        return torch_graph.numbers(run, x)


def _forward(model: Any, x: Tensor) -> dict[str, Tensor]:
    """The last map and the ends of the blocks before."""
    taps: dict[str, Tensor] = {}
    if hasattr(model, "features2"):
        for name, layer in model.features.named_children():
            x = layer(x)
            if name.startswith("denseblock") and not name.endswith("4"):
                taps[name] = x
        return {MAP: x.relu()} | taps
    net = model.model
    x = net.maxpool(net.relu(net.bn1(net.conv1(x))))
    for at, layer in enumerate((net.layer1, net.layer2, net.layer3, net.layer4), 1):
        x = taps[f"layer{at}"] = layer(x)
    return {MAP: taps.pop("layer4")} | taps


def _origin(request: Request) -> dict[str, str]:
    source = f"torchxrayvision {request.name}"
    if request.random:
        return {"source": f"{source}, random weights (seed {request.seed})"}
    return {"licence": "Apache-2.0 (torchxrayvision)", "source": source}
