"""How fast int8 is on this machine, measured: the processor's flags do not say."""

import time
from typing import Any

import numpy as np

from featcache.backbones.engines.base import Engine, noise
from featcache.backbones.engines.openvino import OpenVINOEngine, openvino

_SECONDS = 1.5  # of measuring; OpenVINO starts and compiles in half a second more
_SIDE, _ROWS, _TURNS = 56, 2, 2
_WIDE, _NARROW = 256, 64  # channels of ResNet50's first blocks


def int8_speedup() -> float:
    """How many times as fast as float32 int8 is on this processor.

    Runs two bottleneck blocks of ResNet50 (He et al., CVPR 2016) at 56 x 56 px with
    random weights as the engine runs networks, in turns, and compares the least
    processor time of each, which other programs change less than the time of day.
    """
    engines = [_engine(is_int8=is_int8) for is_int8 in (False, True)]
    # As many requests as are in flight on this machine.
    pictures = noise(_ROWS * engines[0].requests, _SIDE)
    seconds: list[list[float]] = [[], []]
    started = time.perf_counter()
    while len(seconds[0]) < _TURNS or time.perf_counter() - started < _SECONDS:
        for engine, turns in zip(engines, seconds, strict=True):
            turns.append(_seconds(engine, pictures))
    float32, int8 = map(min, seconds)
    return float32 / int8


def _engine(*, is_int8: bool) -> OpenVINOEngine:
    return OpenVINOEngine(blocks(is_int8=is_int8), batch_size=_ROWS)


def _seconds(engine: Engine, pictures: np.ndarray) -> float:
    started = time.process_time()
    list(engine.run([pictures]))
    return time.process_time() - started


def blocks(*, is_int8: bool) -> Any:
    """The network that is measured, from (N, 56, 56, 3) uint8 to "features".

    Args:
        is_int8: Quantise what goes into each convolution, as NNCF does: activations to
            256 levels, the weights of each channel to 255.
    """
    ov = openvino()
    from openvino import opset13 as ops

    rng = np.random.default_rng(0)

    def conv(x: Any, width: int, side: int = 1) -> Any:
        shape = (width, x.get_output_partial_shape(0)[1].get_length(), side, side)
        scale = np.sqrt(2 / np.prod(shape[1:]))
        weights = ops.constant(rng.normal(0, scale, shape).astype(np.float32))
        if is_int8:
            x = ops.fake_quantize(x, *map(np.float32, (0, 4, 0, 4)), 256)
            ends = np.full((width, 1, 1, 1), 4 * scale, np.float32)
            weights = ops.fake_quantize(weights, -ends, ends, -ends, ends, 255)
        pad = [side // 2] * 2
        return ops.convolution(x, weights, [1, 1], pad, pad, [1, 1])

    pixels = ops.parameter([-1, _SIDE, _SIDE, 3], np.uint8, name="pixels")
    scaled = ops.multiply(ops.convert(pixels, np.float32), np.float32(1 / 255))
    x = ops.relu(conv(ops.transpose(scaled, [0, 3, 1, 2]), _WIDE))
    for _ in range(2):
        narrow = ops.relu(conv(ops.relu(conv(x, _NARROW)), _NARROW, 3))
        x = ops.relu(ops.add(x, conv(narrow, _WIDE)))
    features = ops.reduce_mean(x, [2, 3], name="features")
    return ov.Model([features], [pixels])
