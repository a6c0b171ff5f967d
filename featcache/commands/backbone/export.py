"""``featcache backbone export``: a network of another library as ONNX."""

from pathlib import Path

from featcache.backbones import exporting
from featcache.backbones.exporting import ExportedBackbone, Request
from featcache.backbones.files import check_size
from featcache.core.progress import SILENT, Reporter


def export_backbone(
    spec: str,
    output: Path,
    *,
    random: bool = False,
    seed: int = 0,
    input_size: int | None = None,
    pooling: str | None = None,
    force: bool = False,
    reporter: Reporter = SILENT,
) -> ExportedBackbone:
    """Writes a pretrained network as ONNX, and a descriptor with a canary beside it.

    The embedding of the canary's picture is computed by the network's own framework
    with its own transforms. The files appear only if the ONNX file, with what the
    descriptor says, gives the same in OpenVINO.

    Args:
        spec: "timm:NAME", "hf:REPO", "xrv:NAME" (torchxrayvision) or "keras:NAME".
        output: The ``.onnx`` file to write.
        random: Random weights: nothing is downloaded, to try an architecture.
        seed: Of random weights.
        input_size: Side of the input in pixels; by default the network's own.
        pooling: "avg" or "max" of a map; "cls", "mean", "max" or "cls+mean" of tokens;
            by default what the network's own framework does.
        force: Replace files that are there.
        reporter: Hears what the user should know.

    Raises:
        UsageError: A spec, suffix, size or pooling that cannot be, a file that is
            there, or packages that are not.
        UnknownNameError: No such framework or network.
        WeightsError: The network cannot be had, or its images are prepared in a way
            that featcache cannot.
        ExportError: It cannot be written as ONNX, or the file gives other numbers;
            nothing was written.
    """
    if input_size is not None:
        check_size(input_size)
    name = exporting.name_of(spec)
    request = Request(name, random, seed, input_size, pooling)
    exported = exporting.export(spec, request, output, force=force)
    resizing = exported.proof.resizing
    if resizing is not None:
        reporter.message(
            f"{spec} resizes images in its own way: with that the embedding of the "
            f"canary differs by {resizing:.1g} from the one with featcache's resizing."
        )
    return exported
