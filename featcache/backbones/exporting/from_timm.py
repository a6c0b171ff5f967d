"""Networks of timm."""

from typing import Any

import numpy as np
from PIL import Image

from featcache.backbones import foreign
from featcache.backbones.exporting import torch_graph
from featcache.backbones.exporting.original import EMBEDDING, Original, Request, loading
from featcache.backbones.exporting.torch_graph import Readout, Tensor
from featcache.core.versions import installed_versions
from featcache.errors import WeightsError

PACKAGES = ("torch", "torchvision", "timm", "onnx", "onnxscript")


def load(request: Request) -> Original:
    """A network of timm, with the transforms that it is evaluated with.

    Args:
        request: The name is one of ``timm.create_model``; "hf-hub:OWNER/NAME" and
            "local-dir:FOLDER" are.

    Raises:
        WeightsError: No such network, or its weights cannot be had.
        UsageError: A pooling that it does not have.
    """
    with loading(f"timm:{request.name}", random=request.random):
        model = _create(request)
    config = _data_config(model, request)
    channels, side, _ = config["input_size"]
    x = torch_graph.probe(channels, side)
    if request.random:
        torch_graph.normalise(model, x)
    read, stages = _inspect(model, request, x)

    def forward(model: Any, x: Tensor) -> dict[str, Tensor]:
        return _forward(model, x, read, stages)

    keys = {**_pixel_keys(config), **_origin(model, request)}
    square = _scaling_only(config)
    return torch_graph.exportable(
        model, forward, x, read, keys,
        tensor=lambda image: _transformed(config, image),
        scaled=lambda pixels: _transformed(square, Image.fromarray(pixels)),
        embed=lambda x: torch_graph.numbers(lambda x: _embed(model, x, read), x),
        framework=installed_versions(("torch", "timm")),
    )  # fmt: skip


def _create(request: Request) -> Any:
    import timm

    options: dict[str, Any] = {"num_classes": 0}
    if request.input_size:
        options["img_size"] = request.input_size
    with torch_graph.seeded(request.seed):
        try:
            model = timm.create_model(
                request.name, pretrained=not request.random, **options
            )
        except TypeError:  # convolutional networks take any size, and do not ask
            options.pop("img_size", None)
            model = timm.create_model(
                request.name, pretrained=not request.random, **options
            )
    if request.random:
        torch_graph.enliven(model, request.seed)
    return model.eval()


def _data_config(model: Any, request: Request) -> dict[str, Any]:
    """What timm resolves for evaluation."""
    from timm.data import resolve_data_config

    side = request.input_size
    channels = model.pretrained_cfg["input_size"][0]
    own = {"input_size": (channels, side, side)} if side else {}
    return dict(resolve_data_config(own, pretrained_cfg=model.pretrained_cfg))


def _scaling_only(config: dict[str, Any]) -> dict[str, Any]:
    """The same transforms for pictures of the input's size."""
    return config | {"crop_pct": 1.0, "crop_mode": "center"}


def _transformed(config: dict[str, Any], image: Image.Image) -> np.ndarray:
    from timm.data import create_transform

    transform = create_transform(**config, is_training=False)
    return np.asarray(transform(image).numpy())[None]


def _pixel_keys(config: dict[str, Any]) -> dict[str, Any]:
    try:
        return foreign.from_timm(config)
    except ValueError as error:
        raise WeightsError(
            f"timm prepares its images in a way that featcache cannot: {error}",
            "Compute its embeddings with timm and write them to a feature store: see "
            "docs/reference/file-format.md.",
        ) from error


def _inspect(model: Any, request: Request, x: Tensor) -> tuple[Readout, list[int]]:
    """How the embedding is read, and at which indices stages can be tapped."""
    import torch

    prefix = int(getattr(model, "num_prefix_tokens", 0))
    with torch.inference_mode():
        features = _features(model, x)
        embedding = _pre_logits(model, x)
        read = torch_graph.readout(features, embedding, prefix, request.pooling)
        stages = _stages(model, x, features)
    return read, stages


def _features(model: Any, x: Tensor) -> Tensor:
    return _channels_first(model, model.forward_features(x))


def _channels_first(model: Any, features: Tensor) -> Tensor:
    is_last = str(getattr(model, "output_fmt", "NCHW")).endswith("NHWC")
    return features.permute(0, 3, 1, 2) if is_last and features.ndim == 4 else features


def _pre_logits(model: Any, x: Tensor) -> Tensor:
    return model.forward_head(model.forward_features(x), pre_logits=True).flatten(1)


def _embed(model: Any, x: Tensor, read: Readout) -> Tensor:
    if read.kind == EMBEDDING:
        return _pre_logits(model, x)
    return torch_graph.pooled(_features(model, x), read.pooling, read.prefix)


def _stages(model: Any, x: Tensor, features: Tensor) -> list[int]:
    """Stages of a pyramid before its map, or blocks at the quarters of a column."""
    if not hasattr(model, "forward_intermediates"):
        return []
    last, stages = _taps(model, x, None)
    if not torch_graph.is_same(last, features):
        return []
    if features.ndim == 3:
        return torch_graph.quarters(len(stages))
    is_map = stages[-1].shape == last.shape and torch_graph.is_same(stages[-1], last)
    return list(range(len(stages) - is_map))


def _taps(
    model: Any, x: Tensor, stages: list[int] | None
) -> tuple[Tensor, list[Tensor]]:
    features, taps = model.forward_intermediates(x, indices=stages, output_fmt="NCHW")
    return _channels_first(model, features), taps


def _forward(
    model: Any, x: Tensor, read: Readout, stages: list[int]
) -> dict[str, Tensor]:
    features, taps = _taps(model, x, stages) if stages else (_features(model, x), [])

    def head(features: Tensor) -> Tensor:
        is_last = str(getattr(model, "output_fmt", "NCHW")).endswith("NHWC")
        own = features.permute(0, 2, 3, 1) if is_last else features
        return model.forward_head(own, pre_logits=True).flatten(1)

    word = "block" if features.ndim == 3 else "stage"
    named = {f"{word}{at + 1}": tap for at, tap in zip(stages, taps, strict=True)}
    return torch_graph.outputs(read, features, head) | named


def _origin(model: Any, request: Request) -> dict[str, str]:
    """Licence and source, as timm has them."""
    cfg = model.pretrained_cfg
    if request.random:
        return {"source": f"timm:{request.name}, random weights (seed {request.seed})"}
    where = cfg.get("hf_hub_id") or cfg.get("url") or cfg.get("file") or ""
    source = f"timm:{request.name} ({where})" if where else f"timm:{request.name}"
    return {"licence": str(cfg.get("license") or ""), "source": source}
