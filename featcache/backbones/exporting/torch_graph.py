"""PyTorch networks: what their outputs are, and how they are written as ONNX."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from featcache.backbones.exporting.original import (
    EMBEDDING,
    MAP,
    ONE_FILE,
    OPSET,
    PATCHES,
    PIXELS,
    TOKENS,
    Original,
    quiet,
)
from featcache.errors import UsageError

Tensor = Any  # torch.Tensor, which is not imported here
_SAME = 1e-5  # relative to the largest number
_LIVELY = 0.1


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Gives PyTorch a seed in the block; its generator goes on as before."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def enliven(model: Any, seed: int) -> None:
    """Makes constant parameters random too.

    New networks scale some branches by nearly 0 and shift nothing, so that much of them
    could be exported wrongly and nobody would see it.
    """
    import torch

    with seeded(seed), torch.no_grad():
        for parameter in model.parameters():
            if parameter.numel() > 1 and float(parameter.std()) == 0:
                parameter.add_(_LIVELY * torch.randn_like(parameter))


def normalise(model: Any, x: Tensor) -> None:
    """Sets the statistics of batch normalisations to those of an input.

    Without, what tells two pictures apart would fade from layer to layer.
    """
    import torch

    layers = [
        layer
        for layer in model.modules()
        if isinstance(layer, torch.nn.modules.batchnorm._BatchNorm)
    ]
    if not layers:
        return
    for layer in layers:
        layer.momentum = 1.0
    with seeded(0), torch.no_grad():
        model.train()(x)
    model.eval()


@dataclass(frozen=True, eq=False)
class Readout:
    """How an embedding is read from a network's features.

    Attributes:
        kind: "embedding" (N, D), "map" (N, D, h, w) or "tokens" (N, T, D): the name of
            the output.
        pooling: Of a map or of tokens.
        prefix: Tokens in front of those of the patches.
    """

    kind: str
    pooling: str = "avg"
    prefix: int = 0

    @property
    def keys(self) -> dict[str, Any]:
        """Of the descriptor."""
        if self.kind == EMBEDDING:
            return {"output": EMBEDDING, "output_kind": "vector"}
        keys = {"output": self.kind, "output_kind": self.kind, "pooling": self.pooling}
        return keys | ({"prefix_tokens": self.prefix} if self.kind == TOKENS else {})


def readout(
    features: Tensor, embedding: Tensor | None, prefix: int, pooling: str | None
) -> Readout:
    """What pooling of its features is a network's own embedding.

    Args:
        features: (N, D, h, w) or (N, T, D), before any pooling.
        embedding: (N, D), as the network makes it; None for the class token or, where
            there is none, the mean.
        prefix: Tokens in front of those of the patches.
        pooling: As requested; None for that of the network.

    Returns:
        Features and pooling; the embedding itself where no pooling makes it.

    Raises:
        UsageError: A pooling that these features do not have.
    """
    kind = MAP if features.ndim == 4 else TOKENS
    possible = {
        name: pooled(features, name, prefix) for name in _poolings(features, prefix)
    }
    if pooling is not None:
        name = "mean" if pooling == "avg" and kind == TOKENS else pooling
        if name not in possible:
            raise UsageError(
                f"`pooling` {', '.join(possible)} for {kind}",
                repr(pooling),
                "Omit it for what the network's own framework does.",
            )
        return Readout(kind, name, prefix)
    if embedding is None:
        return Readout(kind, next(iter(possible)), prefix)
    for name, values in possible.items():
        if values.shape == embedding.shape and is_same(values, embedding):
            return Readout(kind, name, prefix)
    return Readout(EMBEDDING, prefix=prefix)


def _poolings(features: Tensor, prefix: int) -> tuple[str, ...]:
    if features.ndim == 4:
        return "avg", "max"
    return ("cls", "mean", "max", "cls+mean") if prefix else ("mean", "max")


def pooled(features: Tensor, pooling: str, prefix: int) -> Tensor:
    """One vector of a map (N, D, h, w) or of tokens (N, T, D)."""
    import torch

    if features.ndim == 4:
        return features.mean((2, 3)) if pooling == "avg" else features.amax((2, 3))
    patches = features[:, prefix:]
    if pooling == "max":
        return patches.amax(1)
    parts = {"cls": features[:, 0], "mean": patches.mean(1)}
    return torch.cat([parts[name] for name in pooling.split("+")], dim=1)


def is_same(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors differ by rounding alone."""
    return bool((one - other).abs().max() <= _SAME * other.abs().max())


def as_map(tokens: Tensor, prefix: int) -> Tensor:
    """Tokens of square patches (N, T, D) as (N, D, h, w), without those in front."""
    patches = tokens[:, prefix:].transpose(1, 2)
    side = round(patches.shape[2] ** 0.5)
    return patches.reshape(patches.shape[0], patches.shape[1], side, side)


def quarters(depth: int) -> list[int]:
    """Indices of the blocks after which a quarter, a half, three quarters are done."""
    return sorted({max(depth * n // 4 - 1, 0) for n in (1, 2, 3)})


def outputs(
    read: Readout, features: Tensor, embed: Callable[[Tensor], Tensor]
) -> dict[str, Tensor]:
    """The output that is read, and beside an embedding the features it is made of.

    Args:
        read: How.
        features: (N, D, h, w) or (N, T, D).
        embed: Makes the embedding of the features.
    """
    if read.kind != EMBEDDING:
        return {read.kind: features}
    is_map = features.ndim == 4
    tapped = features if is_map else as_map(features, read.prefix)
    return {EMBEDDING: embed(features), MAP if is_map else PATCHES: tapped}


def numbers(run: Callable[[Tensor], Tensor], tensor: np.ndarray) -> np.ndarray:
    """Runs a PyTorch function on an array."""
    import torch

    with torch.inference_mode():
        return np.asarray(run(torch.from_numpy(np.ascontiguousarray(tensor))).numpy())


def probe(channels: int, side: int) -> Tensor:
    """(2, channels, side, side) of seeded noise."""
    import torch

    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, channels, side, side, generator=generator)


def exportable(
    model: Any,
    forward: Callable[[Any, Tensor], dict[str, Tensor]],
    x: Tensor,
    read: Readout,
    keys: dict[str, Any],
    **rest: Any,
) -> Original:
    """A network of PyTorch with its outputs.

    Args:
        model: The network.
        forward: Runs it: outputs by name.
        x: An input.
        read: How its embedding is read.
        keys: Of its descriptor, beside those of the outputs.
        rest: Further fields of `Original`.
    """
    import torch

    with torch.inference_mode():
        names = list(forward(model, x))
    output = read.keys | {"taps": [name for name in names if name != read.kind]}
    return Original(
        keys={**keys, "layout": "nchw", **output},
        write=lambda path: write(model, forward, names, x, path),
        **rest,
    )


def _as_module(
    model: Any,
    forward: Callable[[Any, Tensor], dict[str, Tensor]],
    names: Sequence[str],
) -> Any:
    import torch

    class Outputs(torch.nn.Module):  # type: ignore[misc]
        """The network, whose outputs are a tuple."""

        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
            outputs = forward(self.model, pixels)
            return tuple(outputs[name] for name in names)

    return Outputs().eval()


def write(
    model: Any,
    forward: Callable[[Any, Tensor], dict[str, Tensor]],
    names: Sequence[str],
    example: Tensor,
    path: Path,
) -> None:
    """Writes a network as ONNX, with one input "pixels" of any batch size.

    Args:
        model: The network.
        forward: Runs it: outputs by name.
        names: Of the outputs, in order.
        example: An input.
        path: The file; weights of more than `ONE_FILE` go into a file beside it.
    """
    import torch

    size = sum(x.numel() * x.element_size() for x in model.parameters())
    with quiet():
        torch.onnx.export(
            _as_module(model, forward, names),
            (example,),
            path,
            input_names=[PIXELS],
            output_names=[*names],
            dynamic_shapes={PIXELS: {0: torch.export.Dim("N")}},
            opset_version=OPSET,
            external_data=size > ONE_FILE,
            dynamo=True,
        )
