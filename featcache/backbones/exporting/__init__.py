"""Exporting backbones: ONNX, a descriptor and a canary of a network elsewhere.

PyTorch and its libraries are imported inside functions only, and nowhere else.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from featcache.backbones import canary
from featcache.backbones.exporting import (
    checking,
    from_hugging_face,
    from_keras,
    from_timm,
    from_xrv,
)
from featcache.backbones.exporting.original import (
    Original,
    Request,
    refuse_missing_packages,
)
from featcache.backbones.files import check_name, from_file
from featcache.backbones.graphs.reading import weights_digest
from featcache.core.io import atomic_path, temporary_folder, write_json
from featcache.core.output_file import check_output
from featcache.core.registry import Registry
from featcache.core.text import first_line
from featcache.errors import ExportError, FeatcacheError, UsageError

__all__ = [
    "FRAMEWORKS",
    "ExportedBackbone",
    "Framework",
    "Request",
    "export",
    "name_of",
]

_BESIDE = (".json", ".onnx.data")  # in place of .onnx
_DIGITS = 9  # that tell all numbers of float32 apart


@dataclass(frozen=True)
class Framework:
    """Where networks come from.

    Attributes:
        load: Gives a network of it.
        packages: What it needs.
        extra: The extra that has them.
    """

    load: Callable[[Request], Original]
    packages: Sequence[str]
    extra: str = "torch"


FRAMEWORKS: Registry[Framework] = Registry(
    "framework",
    {
        "timm": Framework(from_timm.load, from_timm.PACKAGES),
        "hf": Framework(from_hugging_face.load, from_hugging_face.PACKAGES),
        "xrv": Framework(from_xrv.load, from_xrv.PACKAGES),
        "keras": Framework(from_keras.load, from_keras.PACKAGES, from_keras.EXTRA),
    },
)


@dataclass(frozen=True)
class ExportedBackbone:
    """What was written.

    Attributes:
        path: The ONNX file.
        descriptor: The JSON file beside it.
        keys: What stands in that.
        size: Bytes of the ONNX file and of weights beside it.
        proof: How far it is from its own framework.
    """

    path: Path
    descriptor: Path
    keys: dict[str, Any]
    size: int
    proof: checking.Proof


def export(
    spec: str, request: Request, path: Path, *, force: bool = False
) -> ExportedBackbone:
    """Writes a network as ONNX with a descriptor that proves it.

    Args:
        spec: FRAMEWORK:NAME.
        request: How the network is wanted; its name is that of the spec.
        path: The ``.onnx`` file.
        force: Replace files that are there.

    Raises:
        FeatcacheError: As ``commands.backbone.export``.
    """
    framework = FRAMEWORKS[spec.partition(":")[0]]
    files = _files(path, force=force)
    refuse_missing_packages(framework.packages, framework.extra)
    original = framework.load(request)
    expected = checking.reference(original)
    path.parent.mkdir(parents=True, exist_ok=True)
    with temporary_folder(path) as folder:
        temp = folder / path.name
        _write(spec, original, temp)
        keys = original.keys
        write_json(temp.with_suffix(".json"), keys)
        network = from_file(temp, None, None)
        proof = checking.prove(network, expected)
        keys = keys | {"weights_digest": weights_digest(network)}
        keys |= {"canary": _canary(original, expected)}
        write_json(temp.with_suffix(".json"), keys)
        size = _publish(folder, files)
    return ExportedBackbone(path, path.with_suffix(".json"), keys, size, proof)


def _publish(folder: Path, files: Sequence[Path]) -> int:
    """Moves the files that were written to their places; bytes without the JSON."""
    written = [file for file in files if (folder / file.name).exists()]
    for file in reversed(written):  # the named one last: it says that all is there
        with atomic_path(file) as target:
            os.replace(folder / file.name, target)
    return sum(x.stat().st_size for x in written if x.suffix != ".json")


def name_of(spec: str) -> str:
    """The name of a network in its framework.

    Raises:
        UsageError: It is not FRAMEWORK:NAME.
        UnknownNameError: There is no such framework.
    """
    framework, colon, name = spec.partition(":")
    if not colon or not name:
        raise UsageError(
            f"FRAMEWORK:NAME with one of {', '.join(FRAMEWORKS)}",
            repr(spec),
            "Such as timm:resnet50 or hf:microsoft/rad-dino.",
        )
    if framework not in FRAMEWORKS:
        raise FRAMEWORKS.unknown(framework)
    return name


def _files(path: Path, *, force: bool) -> list[Path]:
    """The file and those beside it, where none is in the way."""
    check_name(path)
    if path.suffix != ".onnx":
        raise UsageError("`output` an .onnx file", str(path), "Change its suffix.")
    files = [path, *(path.with_suffix(suffix) for suffix in _BESIDE)]
    for file in files:
        check_output(file, "output", force=force)
    return files


def _write(spec: str, original: Original, path: Path) -> None:
    try:
        original.write(path)
    except (OSError, FeatcacheError):
        raise
    except Exception as error:  # exporters raise anything
        raise ExportError(
            f"{spec} as a network that can be written as ONNX",
            f"{first_line(error)}. Nothing was written",
            "Compute its embeddings in its own framework and write them to a feature "
            "store: see docs/reference/file-format.md.",
        ) from error


def _canary(original: Original, expected: checking.Reference) -> dict[str, Any]:
    numbers = [float(f"{x:.{_DIGITS}g}") for x in expected.embedding.tolist()]
    record: dict[str, Any] = {
        "picture": canary.PICTURE,
        "input_size": original.keys["input_size"],
        "embedding": numbers,
        "framework": original.framework,
    }
    if expected.resizing is None:
        return record
    own = {"resized_by": "featcache", "resizing_difference": expected.resizing}
    return record | own
