"""``featcache backbone``: which networks there are, and networks from elsewhere."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from featcache.cli.options import cache_option, force_option, json_option
from featcache.cli.output import Said, print_json, print_table, show

if TYPE_CHECKING:
    from featcache.backbones.exporting import ExportedBackbone
    from featcache.commands.backbone.describe import BackboneDescription


@click.group("backbone", short_help="List, describe, check and export networks.")
def backbone_group() -> None:
    """List, describe and check networks, and export those of other libraries."""


@backbone_group.command("ls", short_help="List networks, their weights and licences.")
@cache_option
@json_option
def ls_command(cache: Path, as_json: bool) -> None:
    """List the networks of the table, those in files that the cache knows, baselines.

    Names are as -b takes them. The licence is that of the weights.
    """
    from featcache.commands.backbone.listing import list_backbones

    listed = list_backbones(cache)
    if as_json:
        print_json([vars(one) for one in listed])
        return
    from featcache.core.text import NOT_STATED

    headings = [("-b", False), ("input", True), ("width", True), ("weights", False)]
    headings += [("licence", False), ("canary", False), ("datasets", False)]
    headings += [("source", False)]
    rows = [
        [
            one.name,
            f"{one.input_size} px" if one.input_size else "",
            str(one.width),
            one.weights or "none needed",
            "" if one.kind == "baseline" else one.licence or NOT_STATED,
            one.canary or "",
            " ".join(one.datasets),
            one.source,
        ]
        for one in listed
    ]
    print_table(headings, rows, drop_first=["source", "datasets", "width", "input"])


@backbone_group.command("describe", short_help="Say what a network takes and gives.")
@click.argument("name", metavar="NAME|FILE")
@click.option(
    "--input-size",
    type=int,
    metavar="PIXELS",
    help="Side of the input.  [default: the network's own]",
)
@json_option
def describe_command(name: str, input_size: int | None, as_json: bool) -> None:
    """Say what a network takes and gives: input, scaling, output, layers, licence.

    NAME is one of the table; FILE a .keras, .onnx or .xml file.
    """
    from featcache.commands.backbone.describe import describe

    one = describe(name, input_size=input_size)
    if as_json:
        print_json(vars(one))
        return
    for key, value in _described(one).items():
        if value:
            show(f"{key}: {value}")


def _described(one: "BackboneDescription") -> dict[str, str]:
    """What is known of a network, in words."""
    from featcache.core.text import NOT_STATED, counted, some

    sides = f", {one.input_sizes[0]} to {one.input_sizes[1]}" if one.input_sizes else ""
    channels = counted(one.channels, "channel")
    pooled = "" if one.output.startswith("vector") else f"; pooled by {one.pooling}"
    made = ", ".join(f"{name} {text}" for name, text in (one.canary or {}).items())
    scale, offset = (
        " ".join(f"{number:.6g}" for number in numbers)
        for numbers in (one.scale, one.offset)
    )
    if one.is_baseline:
        seen = f"{one.input_size} px, {one.resize}" if one.input_size else "the file"
        return {"name": one.name, "input": seen, "width": str(one.width)}
    return {
        "name": one.name,
        "file": one.file or "",
        "input": f"{one.input_size} px{sides}, {channels}, {one.resize}",
        "scaling": one.scaling,
        "in numbers": f"pixels x {scale} + {offset}" if scale else "",
        "output": one.output + pooled,
        "width": str(one.width),
        "default taps": some(one.taps, 20),
        "layers": some(one.layers, 8),
        "licence": one.licence or NOT_STATED,
        "source": one.source or NOT_STATED,
        "weights digest": one.weights_digest,
        "canary": f"computed by {made}" if made else "none",
    }


@backbone_group.command("check", short_help="Check a network in a file.")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@json_option
def check_command(file: Path, as_json: bool) -> None:
    """Check a network in a file: that it runs, and its canary. Exit code 1 on FAIL."""
    from featcache.commands.backbone.checking import FAIL, check

    checks = check(file)
    if as_json:
        print_json([vars(one) for one in checks])
    else:
        headings = [("", False), ("check", False), ("result", False)]
        print_table(headings, [[one.status, one.name, one.result] for one in checks])
        for one in checks:
            if one.fix:
                show(f"{one.status} {one.name}: {one.fix}")
    if any(one.status == FAIL for one in checks):
        sys.exit(1)


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
