"""Descriptors of other libraries: Hugging Face's image processors and timm's data.

Each becomes the keys of a descriptor of ours. A key that is not understood could change
pixels, so it is an error and is never ignored.
"""

import math
from collections.abc import Mapping
from typing import Any

Config = Mapping[str, Any]
Keys = dict[str, Any]

_IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
_HALF = {"mean": [0.5] * 3, "std": [0.5] * 3}
_CLIP = {
    "mean": [0.48145466, 0.4578275, 0.40821073],
    "std": [0.26862954, 0.26130258, 0.27577711],
}
# Hugging Face's and Pillow's numbers.
_RESAMPLE = {
    0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box", 5: "hamming",
}  # fmt: skip
_BILINEAR, _BICUBIC = 2, 3


def _processor(
    size: Any, statistics: dict[str, list[float]], resample: int, crop: Any = None
) -> Keys:
    """What an image processor does where its file does not say."""
    return {
        "do_resize": True, "size": size, "resample": resample,
        "do_center_crop": crop is not None, "crop_size": crop,
        "do_rescale": True, "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": statistics["mean"], "image_std": statistics["std"],
    }  # fmt: skip


_SQUARE, _EDGE = {"height": 224, "width": 224}, {"shortest_edge": 224}
_CONVNEXT = "ConvNextImageProcessor"
_PROCESSORS: dict[str, Keys] = {
    "ViTImageProcessor": _processor(_SQUARE, _HALF, _BILINEAR),
    "DINOv3ViTImageProcessor": _processor(_SQUARE, _IMAGENET, _BILINEAR),
    "SiglipImageProcessor": _processor(_SQUARE, _HALF, _BICUBIC),
    "CLIPImageProcessor": _processor(_EDGE, _CLIP, _BICUBIC, _SQUARE),
    "BitImageProcessor": _processor(_EDGE, _CLIP, _BICUBIC, _SQUARE),
    _CONVNEXT: _processor({"shortest_edge": 384}, _HALF, _BICUBIC)
    | {"crop_pct": 224 / 256},
}
# Those that take one number as the shortest edge, and not as both sides.
_ONE_NUMBER_IS_EDGE = ("CLIPImageProcessor", "BitImageProcessor", _CONVNEXT)
# Keys that change no pixel of an RGB image.
_HARMLESS = {
    "image_processor_type", "feature_extractor_type", "processor_class", "auto_map",
    "do_convert_rgb", "default_to_square", "_valid_processor_keys", "return_tensors",
    "data_format", "input_data_format", "device", "disable_grouping", "backend",
    "_processor_class", "return_metadata", "_image_processor_type", "name_or_path",
    "_name_or_path", "image_seq_length", "_commit_hash", "transformers_version",
}  # fmt: skip
# Keys of timm that say nothing of how an image is prepared for evaluation.
_NOT_OF_IMAGES = {
    "url", "file", "state_dict", "hf_hub_id", "hf_hub_filename", "source",
    "architecture", "tag", "custom_load", "test_input_size", "min_input_size",
    "fixed_input_size", "test_crop_pct", "num_classes", "label_offset", "label_names",
    "label_descriptions", "pool_size", "test_pool_size", "first_conv", "classifier",
    "license", "description", "origin_url", "paper_name", "paper_ids", "notes",
}  # fmt: skip
_TIMM = {
    "input_size": [3, 224, 224], "interpolation": "bicubic", "crop_pct": 0.875,
    "crop_mode": "center", **_IMAGENET,
}  # fmt: skip
_BESIDE_CFG = {
    "architecture", "num_classes", "num_features", "global_pool", "model_args",
    "pretrained_cfg", "license", "description", "label_names", "label_descriptions",
    "model_type", "torch_dtype", "transformers_version", "architectures", "do_pooling",
    "initializer_range", "problem_type",
}  # fmt: skip
_INTERPOLATIONS = frozenset(_RESAMPLE.values())


def is_foreign(config: Config) -> bool:
    """Whether a JSON object is a descriptor of Hugging Face or of timm."""
    return _is_hugging_face(config) or _is_timm(config)


def descriptor_keys(config: Config) -> Keys:
    """The keys of our descriptor for one of another library.

    Args:
        config: A ``preprocessor_config.json`` of Hugging Face, or a ``config.json`` or
            ``pretrained_cfg`` of timm.

    Returns:
        ``input_size``, ``channels``, ``resize``, ``interpolation``, ``range``,
        ``mean``, ``std`` and so on.

    Raises:
        ValueError: It is neither, does what featcache cannot, or has a key that is not
            known; says which.
    """
    if _is_hugging_face(config):
        return from_hugging_face(config)
    if _is_timm(config):
        return from_timm(config)
    raise ValueError(
        "it is neither a preprocessor_config.json of Hugging Face nor a config of timm"
    )


def _is_hugging_face(config: Config) -> bool:
    types = {"image_processor_type", "feature_extractor_type"}
    return bool(types & config.keys()) or {"do_normalize", "image_mean"} <= {*config}


def _is_timm(config: Config) -> bool:
    if isinstance(config.get("pretrained_cfg"), Mapping):
        return True
    size = config.get("input_size")
    return isinstance(size, list | tuple) and len(size) == 3


def from_hugging_face(config: Config) -> Keys:
    """The keys for an image processor; see ``descriptor_keys``.

    Raises:
        ValueError: As there.
    """
    kind = _processor_type(config)
    defaults = _PROCESSORS[kind]
    unused = set() if config.get("do_pad") else {"pad_size", "size_divisor"}
    for key in config.keys() - defaults.keys() - _HARMLESS - unused:
        if config[key] not in (None, False):
            raise ValueError(f"{key} of a {kind} is not understood")
    values = defaults | {k: v for k, v in config.items() if k in defaults}
    if not values["do_resize"]:
        raise ValueError("do_resize is false, and no size of the input is known")
    sizes = _sizes(kind, values)
    return sizes | _pillow(_resample(values["resample"])) | _scaling(values)


def _pillow(interpolation: str) -> Keys:
    return {"interpolation": interpolation, "antialias": True, "order": "rgb"}


def _scaling(values: Config) -> Keys:
    factor = float(values["rescale_factor"]) if values["do_rescale"] else 1.0
    keys: Keys = {"channels": 3, "range": [0.0, _rounded(255 * factor)]}
    if not values["do_normalize"]:
        return keys
    names = {"mean": "image_mean", "std": "image_std"}
    return keys | {key: _channels(values, name) for key, name in names.items()}


def _processor_type(config: Config) -> str:
    name = config.get("image_processor_type") or config.get("feature_extractor_type")
    kind = str(name or "").replace("FeatureExtractor", "ImageProcessor")
    kind = kind.removesuffix("Fast").removesuffix("Pil")
    if kind not in _PROCESSORS:
        known = ", ".join(_PROCESSORS)
        raise ValueError(f"image_processor_type is {name!r}, not one of {known}")
    return kind


def _sizes(kind: str, values: Config) -> Keys:
    """How an image becomes a square."""
    size = values["size"]
    if isinstance(size, int):
        edge = {"shortest_edge": size}
        size = edge if kind in _ONE_NUMBER_IS_EDGE else {"height": size, "width": size}
    crop = _side(values["crop_size"], "crop_size") if values["do_center_crop"] else None
    if {*size} == {"shortest_edge"}:
        to = int(size["shortest_edge"])
        if kind == _CONVNEXT:
            return _convnext_sizes(to, float(values["crop_pct"]), crop)
        return _cropped(to, crop)
    side = _side(size, "size")
    if crop not in (None, side):
        raise ValueError(
            f"images are squeezed to {side} pixels and cut to {crop}; only images of "
            "their own proportions can be cut"
        )
    return {"input_size": side, "resize": "exact"}


def _convnext_sizes(edge: int, share: float, crop: int | None) -> Keys:
    """ConvNeXt's: from 384 pixels without a crop, below with one of a share."""
    if crop not in (None, edge):
        raise ValueError("a second centre crop is not understood")
    if edge >= 384:
        return {"input_size": edge, "resize": "exact"}
    return _cropped(int(edge / share), edge)


def _cropped(to: int, crop: int | None) -> Keys:
    if crop is None:
        raise ValueError("the shortest edge is resized and nothing cut: no square")
    if crop > to:
        raise ValueError(f"crop_size {crop} is more than the shortest edge, {to}")
    keys = {"input_size": crop, "resize": "shortest_edge", "resize_to": to}
    return keys | {"crop_rounding": "down"}


def _side(size: Any, name: str) -> int:
    """The side of a square size."""
    if isinstance(size, int):
        return size
    if not isinstance(size, Mapping) or {*size} != {"height", "width"}:
        raise ValueError(f"{name} is {_short(size)}, not a height and a width")
    if size["height"] != size["width"]:
        raise ValueError(f"{name} is {_short(dict(size))}, not a square")
    return int(size["height"])


def _channels(values: Config, name: str) -> list[float]:
    value = values[name]
    numbers = [value] * 3 if isinstance(value, int | float) else list(value)
    if len(numbers) != 3:
        raise ValueError(f"{name} is {_short(value)}, not three numbers")
    return [float(number) for number in numbers]


def _resample(number: Any) -> str:
    if number not in _RESAMPLE:
        raise ValueError(f"resample is {_short(number)}, not 0 to 5")
    return _RESAMPLE[number]


def _rounded(number: float) -> float:
    """A number without the last bits that 1/255 has left."""
    return float(f"{number:.9g}")


def from_timm(config: Config) -> Keys:
    """The keys for a ``pretrained_cfg``, bare or in its ``config.json``.

    Raises:
        ValueError: As ``descriptor_keys``.
    """
    cfg = config.get("pretrained_cfg", config)
    _refuse_unknown(config, cfg)
    values = _TIMM | {k: v for k, v in cfg.items() if k in _TIMM and v is not None}
    channels, side = _timm_input(values["input_size"], config.get("model_args") or {})
    if values["interpolation"] not in _INTERPOLATIONS:
        raise ValueError(f"interpolation is {_short(values['interpolation'])}")
    numbers = {name: [float(x) for x in values[name]] for name in ("mean", "std")}
    if any(len(values) not in (1, channels) for values in numbers.values()):
        raise ValueError(f"mean and std are not of {channels} channels: {numbers}")
    return {
        **_timm_sizes(side, float(values["crop_pct"]), str(values["crop_mode"])),
        **_pillow(values["interpolation"]),
        "channels": channels,
        "range": [0.0, 1.0],
        **numbers,
        **_origin(config, cfg),
    }


def _timm_input(size: Any, arguments: Config) -> tuple[int, int]:
    """Channels and side, where the network is built for the same."""
    channels, height, width = size
    sides = {arguments.get("img_size", height), height, width}
    if len(sides) > 1 or arguments.get("in_chans", channels) != channels:
        raise ValueError(
            f"input_size is {_short(size)}, not a square of the size that the network "
            "has"
        )
    return channels, height


def _refuse_unknown(config: Config, cfg: Config) -> None:
    unknown = [key for key in cfg if key not in _TIMM and key not in _NOT_OF_IMAGES]
    if cfg is not config:
        unknown += [key for key in config if key not in _BESIDE_CFG]
    if unknown:
        raise ValueError(f"{unknown[0]} of timm's config is not understood")


def _timm_sizes(side: int, share: float, mode: str) -> Keys:
    to = math.floor(side / share)
    if mode == "center":
        return {"input_size": side, "resize": "shortest_edge", "resize_to": to}
    if mode == "squash" and to == side:
        return {"input_size": side, "resize": "exact"}
    raise ValueError(
        f"crop_mode {mode!r} with crop_pct {share:g} cannot be said in a descriptor"
    )


def _origin(config: Config, cfg: Config) -> Keys:
    """Licence and source, where they are named."""
    licence = cfg.get("license") or config.get("license")
    source = cfg.get("hf_hub_id") or cfg.get("origin_url") or cfg.get("url")
    pairs = {"licence": licence, "source": source}
    return {key: str(value) for key, value in pairs.items() if value}


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
