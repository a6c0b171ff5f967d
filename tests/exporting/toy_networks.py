"""Small networks of other libraries, with random weights and nothing downloaded."""

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

# For tests that need PyTorch and the libraries on top of it.
NEEDS_TORCH = [
    pytest.mark.torch,
    pytest.mark.skipif(
        find_spec("torch") is None,
        reason="PyTorch is not installed: pip install 'featcache[torch]'",
    ),
    pytest.mark.filterwarnings("ignore"),  # of what these libraries do
]
_SMALL: dict[str, Any] = {
    "hidden_size": 48, "num_hidden_layers": 4, "num_attention_heads": 3,
    "intermediate_size": 96,
}  # fmt: skip
_HALF = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
# Type of model: its config, and what its image processor does.
HUGGING_FACE: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "dinov2": (
        _SMALL | {"image_size": 70, "patch_size": 14},
        {
            "image_processor_type": "BitImageProcessor", "resample": 3,
            "size": {"shortest_edge": 80}, "crop_size": {"height": 70, "width": 70},
        },
    ),
    # Its positions are interpolated: it was made for images of 140 pixels.
    "dinov2_with_registers": (
        _SMALL | {"image_size": 140, "patch_size": 14, "num_register_tokens": 4},
        {
            "image_processor_type": "BitImageProcessor", "resample": 3,
            "size": {"shortest_edge": 70}, "crop_size": {"height": 70, "width": 70},
        },
    ),
    "vit": (
        _SMALL | {"image_size": 64, "patch_size": 16},
        {
            "image_processor_type": "ViTImageProcessor", "resample": 2,
            "size": {"height": 64, "width": 64}, **_HALF,
        },
    ),
    "siglip_vision_model": (
        _SMALL | {"image_size": 64, "patch_size": 16},
        {
            "image_processor_type": "SiglipImageProcessor", "resample": 3,
            "size": {"height": 64, "width": 64}, **_HALF,
        },
    ),
}  # fmt: skip


def hugging_face_folder(folder: Path, kind: str) -> Path:
    """A folder as transformers saves one, without weights."""
    config, processor = HUGGING_FACE[kind]
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"model_type": kind} | config))
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return folder
