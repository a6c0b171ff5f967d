"""``featcache backbone``: networks from elsewhere."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from featcache.cli.options import force_option, json_option
from featcache.cli.output import Said, print_json, show

if TYPE_CHECKING:
    from featcache.backbones.exporting import ExportedBackbone


@click.group("backbone", short_help="Bring networks of other libraries.")
def backbone_group() -> None:
    """Bring networks of other libraries."""


@backbone_group.command("export", short_help="Write a network as an ONNX file.")
@click.argument("spec", metavar="SPEC")
@click.option(
    "-o",
    "--output",
    required=True,
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The .onnx file to write; the descriptor goes into a .json file beside it.",
)
@click.option(
    "--random",
    is_flag=True,
    help="Random weights: download nothing, to try an architecture.",
)
@click.option(
    "--seed", type=int, default=0, show_default=True, help="Seed of random weights."
)
@click.option(
    "--input-size",
    type=int,
    metavar="PIXELS",
    help="Side of the input.  [default: the network's own]",
)
@click.option(
    "--pooling",
    type=click.Choice(["avg", "max", "cls", "mean", "cls+mean"]),
    help="How its map or tokens become the embedding.  [default: as its own framework "
    "does]",
)
@force_option
@json_option
def export_command(spec: str, output: Path, as_json: bool, **settings: Any) -> None:
    """Write a network of another library as ONNX, with a descriptor that proves it.

    SPEC is timm:NAME, hf:REPO (transformers), xrv:NAME (torchxrayvision) or keras:NAME.
    The files appear only if the ONNX file gives the embedding that the library gives.
    """
    from featcache.commands.backbone.export import export_backbone

    exported = export_backbone(spec, output, reporter=Said(), **settings)
    if as_json:
        print_json(_record(exported))
        return
    keys, proof = exported.keys, exported.proof
    show(
        f"{exported.path}: {spec}, {exported.size / 2**20:.1f} MiB, "
        f"{keys['input_size']} px, embedding of {len(keys['canary']['embedding'])}; "
        f"differs from its own framework by {proof.embedding:.1g} on the canary."
    )
    show(f"{exported.descriptor}: licence {keys.get('licence') or 'not stated'}.")


def _record(exported: "ExportedBackbone") -> dict[str, Any]:
    from featcache.core.records import plain

    record: dict[str, Any] = plain(exported)
    files = {"path": str(exported.path), "descriptor": str(exported.descriptor)}
    return record | files
