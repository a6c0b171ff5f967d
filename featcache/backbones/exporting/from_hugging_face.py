"""Vision models of Hugging Face's transformers."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from featcache.backbones import foreign
from featcache.backbones.exporting import torch_graph
from featcache.backbones.exporting.original import EMBEDDING, Original, Request, loading
from featcache.backbones.exporting.torch_graph import Readout, Tensor
from featcache.core.versions import installed_versions
from featcache.errors import WeightsError

PACKAGES = ("torch", "torchvision", "transformers", "onnx", "onnxscript")
_CONFIG = "config.json"


@dataclass(frozen=True, eq=False)
class _Vision:
    """A vision model and what calls it.

    Attributes:
        model: The model, or the vision tower of a model of pictures and words.
        options: Of its forward pass.
    """

    model: Any
    options: dict[str, Any]

    def __call__(self, x: Tensor, **options: Any) -> Any:
        return self.model(pixel_values=x, **self.options, **options)


def load(request: Request) -> Original:
    """A vision model, with its image processor (the one that resizes with Pillow).

    Args:
        request: The name is a repository or a folder; for random weights also a type of
            model, such as "dinov2".

    Raises:
        WeightsError: It cannot be had, is no vision model, or its images are prepared
            in a way that featcache cannot.
        UsageError: A pooling that it does not have.
    """
    with loading(f"hf:{request.name}", random=request.random):
        model = _model(request)
        processor = _processor(request, model.config)
    keys, processor = _pixel_keys(request, processor)
    side = keys["input_size"]
    x = torch_graph.probe(3, side)
    if request.random:
        torch_graph.normalise(model, x)
    vision = _Vision(model, _options(model, side))
    read, stages = _inspect(vision, request, x)

    def forward(model: Any, x: Tensor) -> dict[str, Tensor]:
        return _forward(_Vision(model, vision.options), x, read, stages)

    return torch_graph.exportable(
        model, forward, x, read, keys | _origin(request),
        tensor=lambda image: _processed(processor, image),
        scaled=lambda pixels: _processed(processor, pixels, scale_only=True),
        embed=lambda x: torch_graph.numbers(lambda x: _embed(vision, x, read), x),
        framework=installed_versions(("torch", "transformers")),
        resizes_whole_greys=getattr(processor, "backend", "pil") == "pil",
    )  # fmt: skip


def _is_type(request: Request) -> bool:
    """Whether the name is a type of model and not where one lies."""
    return "/" not in request.name and not Path(request.name).is_dir()


def _model(request: Request) -> Any:
    from transformers import AutoConfig, AutoModel

    if not request.random:
        model = AutoModel.from_pretrained(request.name, dtype="float32")
    else:
        name = request.name
        make = AutoConfig.for_model if _is_type(request) else AutoConfig.from_pretrained
        with torch_graph.seeded(request.seed):
            model = AutoModel.from_config(make(name))
        torch_graph.enliven(model, request.seed)
    tower = getattr(model, "vision_model", model)
    if getattr(tower, "main_input_name", "") != "pixel_values":
        raise WeightsError(
            f"hf:{request.name} is a {type(model).__name__}, not a vision model",
            "Name a model whose input is images.",
        )
    return tower.eval()


def _processor(request: Request, config: Any) -> Any:
    from transformers import AutoImageProcessor

    if not (request.random and _is_type(request)):
        return AutoImageProcessor.from_pretrained(request.name, backend="pil")
    kind = _processor_class(config.model_type)
    side = getattr(config, "image_size", None)
    return _at_size(kind(), side) if side else kind()


def _processor_class(model_type: str) -> Any:
    """The processor that transformers uses for a type of model, with Pillow."""
    import transformers
    from transformers.models.auto.image_processing_auto import (
        IMAGE_PROCESSOR_MAPPING_NAMES,
    )

    for name in (model_type, model_type.removesuffix("_vision_model")):
        if name in IMAGE_PROCESSOR_MAPPING_NAMES:
            kinds = dict(IMAGE_PROCESSOR_MAPPING_NAMES[name])
            return getattr(transformers, kinds.get("pil") or kinds["torchvision"])
    raise WeightsError(
        f"transformers knows no image processor for {model_type}",
        "Name a folder with a preprocessor_config.json.",
    )


def _at_size(processor: Any, side: int) -> Any:
    """The processor for another side; the crop keeps its share of the image."""
    values = processor.to_dict()
    size, crop = dict(values["size"]), values.get("crop_size")
    if "height" in size:
        values["size"] = {"height": side, "width": side}
    else:
        own = crop["height"] if crop else size["shortest_edge"]
        values["size"] = {"shortest_edge": round(size["shortest_edge"] * side / own)}
    if crop:
        values["crop_size"] = {"height": side, "width": side}
    return type(processor)(**values)


def _pixel_keys(request: Request, processor: Any) -> tuple[dict[str, Any], Any]:
    try:
        if request.input_size:
            processor = _at_size(processor, request.input_size)
        return foreign.from_hugging_face(_described(processor)), processor
    except (ValueError, KeyError) as error:
        raise WeightsError(
            f"the image processor of hf:{request.name} does what featcache cannot: "
            f"{error}",
            "Compute its embeddings with transformers and write them to a feature "
            "store: see docs/reference/file-format.md.",
        ) from error


def _described(processor: Any) -> dict[str, Any]:
    """What a processor would write to ``preprocessor_config.json``."""
    values: dict[str, Any] = processor.to_dict()
    return values | {"image_processor_type": type(processor).__name__}


def _processed(
    processor: Any, image: Image.Image | np.ndarray, *, scale_only: bool = False
) -> np.ndarray:
    own = {"do_resize": False, "do_center_crop": False} if scale_only else {}
    done = processor(images=image, return_tensors="np", **own)
    return np.asarray(done["pixel_values"], np.float32)


def _options(model: Any, side: int) -> dict[str, Any]:
    """Asks for other positions where the input has another size than in training."""
    import inspect

    own = getattr(model.config, "image_size", side)
    names = inspect.signature(model.forward).parameters
    if own in (side, [side, side]) or "interpolate_pos_encoding" not in names:
        return {}
    return {"interpolate_pos_encoding": True}


def _inspect(vision: _Vision, request: Request, x: Tensor) -> tuple[Readout, list[int]]:
    """How the embedding is read, and which hidden states can be tapped."""
    import torch

    with torch.inference_mode():
        done = vision(x, output_hidden_states=True)
        features = done.last_hidden_state
        prefix = 0
        if features.ndim == 3:
            patch = vision.model.config.patch_size
            prefix = features.shape[1] - (x.shape[2] // patch) ** 2
        pooler = _own_embedding(vision.model, done)
        read = torch_graph.readout(features, pooler, prefix, request.pooling)
    depth = len(done.hidden_states or ()) - 1
    stages = [at + 1 for at in torch_graph.quarters(depth)] if depth > 1 else []
    return read, stages


def _own_embedding(model: Any, done: Any) -> Tensor | None:
    """The pooled output, unless a classifier's layer is part of it."""
    pooler = getattr(done, "pooler_output", None)
    if pooler is None or hasattr(getattr(model, "pooler", None), "dense"):
        return None
    return pooler.flatten(1)


def _embed(vision: _Vision, x: Tensor, read: Readout) -> Tensor:
    done = vision(x)
    if read.kind == EMBEDDING:
        return done.pooler_output.flatten(1)
    return torch_graph.pooled(done.last_hidden_state, read.pooling, read.prefix)


def _forward(
    vision: _Vision, x: Tensor, read: Readout, stages: list[int]
) -> dict[str, Tensor]:
    done = vision(x, output_hidden_states=True)
    head: Callable[[Tensor], Tensor] = lambda _: done.pooler_output.flatten(1)  # noqa: E731
    outputs = torch_graph.outputs(read, done.last_hidden_state, head)
    for at in stages:
        hidden = done.hidden_states[at]
        is_map = hidden.ndim == 4
        name = f"stage{at}" if is_map else f"block{at}"
        outputs[name] = hidden if is_map else torch_graph.as_map(hidden, read.prefix)
    return outputs


def _origin(request: Request) -> dict[str, str]:
    """Licence and source; the licence as its model card says, where it can be read."""
    source = f"hf:{request.name}"
    if request.random:
        return {"source": f"{source}, random weights (seed {request.seed})"}
    return {"licence": _licence(request.name), "source": source}


def _licence(name: str) -> str:
    from huggingface_hub import ModelCard

    folder = Path(name)
    try:
        card = ModelCard.load(folder / "README.md" if folder.is_dir() else name)
        words = [card.data.get("license"), card.data.get("license_name")]
    except Exception:  # noqa: BLE001 - a card that is missing is no reason to stop
        return ""
    return ", ".join(str(word) for word in words if word)
