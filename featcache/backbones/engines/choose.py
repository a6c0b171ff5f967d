"""Which engine runs a network on this machine."""

import importlib.util
from pathlib import Path


def preferred(engine: str) -> str:
    """What "auto" means here: TensorFlow on a GPU, else OpenVINO where it is."""
    if engine != "auto":
        return engine
    if Path("/dev/nvidiactl").exists() or not importlib.util.find_spec("openvino"):
        return "tensorflow"
    return "openvino"
