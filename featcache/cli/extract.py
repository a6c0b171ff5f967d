"""``featcache extract``."""

from collections.abc import Sequence
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

import click

from featcache.cli import extract_parts
from featcache.cli.extract_parts import parts_options, take_parts
from featcache.cli.options import (
    backbones_option,
    cache_option,
    is_given,
    json_option,
    on_option,
    open_dataset,
    policy_options,
    region_options,
    resolve_networks,
    scanned_dataset_option,
    seed_option,
    source_options,
    take,
)
from featcache.cli.output import bars, print_json, show
from featcache.cli.scan import Place, scan_source
from featcache.core.text import counted
from featcache.errors import UsageError

if TYPE_CHECKING:
    from featcache.backbones import Network
    from featcache.commands.extract import StoreResult
    from featcache.dataset.manifest import Manifest
    from featcache.dataset.urls import Location


@click.command("extract", short_help="Run frozen backbones and store the features.")
@click.argument("source", type=Place(), required=False)
@scanned_dataset_option
@backbones_option(
    "A backbone, the path of a .keras, .onnx or .xml file, classic5 for five of "
    "them (densenet121, resnet50, vgg19, inceptionv3, xception), or baselines for "
    "features without a network (metadata, pixels48, border); may be repeated.",
)
@click.option(
    "--views",
    type=int,
    default=0,
    show_default=True,
    help="Augmented views of each image in addition to the plain one.",
)
@policy_options
@region_options
@click.option(
    "--weights",
    default="imagenet",
    show_default=True,
    metavar="imagenet|random|FILE",
    help="Weights of the backbone; FILE is a Keras weights file without the top.",
)
@click.option(
    "--preprocess",
    default="imagenet",
    show_default=True,
    metavar="imagenet|torch|caffe|tf|none|featurewise",
    help="Input scaling; imagenet is the backbone's own, featurewise scales "
    "each channel to mean 0 and variance 1 over the training images.",
)
@click.option("--input-size", type=int, metavar="PX", help="Side of the square input.")
@click.option(
    "--taps",
    default="none",
    show_default=True,
    metavar="none|default|LAYER,...",
    help="Inner layers to pool and store next to the embedding; default "
    "means the ends of the backbone's blocks.",
)
@click.option(
    "--tap-pooling",
    default="avg",
    show_default=True,
    metavar="POOLING+...",
    help="How each tap's map is pooled: one or several of avg, max, gem, grid2 and "
    "grid3.",
)
@click.option(
    "--pooling",
    default="avg",
    show_default=True,
    metavar="POOLING+...",
    help="How the network's last map is pooled in addition to its average, "
    "the embedding: one or several of avg, max, gem, grid2 and grid3; "
    "stored as taps such as features:max.",
)
@click.option(
    "--engine",
    default="auto",
    show_default=True,
    metavar="auto|tensorflow|openvino",
    help="auto uses TensorFlow on a GPU and OpenVINO on a CPU.",
)
@click.option(
    "--precision",
    default="float32",
    show_default=True,
    metavar="float32|int8",
    help="int8 quantises the network: faster on most CPUs (featcache doctor measures "
    "how much) and slightly less exact; uses a separate store.",
)
@click.option(
    "--dtype",
    default="float32",
    show_default=True,
    metavar="float32|float16",
    help="How embeddings are stored.",
)
@click.option(
    "--batch-size", type=int, default=32, show_default=True, help="Images per batch."
)
@seed_option
@click.option(
    "--max-bad",
    type=float,
    default=0.05,
    show_default=True,
    help="Maximum share of unreadable images; above it the command fails.",
)
@source_options
@on_option
@parts_options
@cache_option
@json_option
def extract_command(
    source: "Location | None",
    dataset: str | None,
    names: tuple[str, ...],
    cache: Path,
    as_json: bool,
    **settings: Any,
) -> None:
    """Run frozen backbones on the images of SOURCE and store the features.

    Without SOURCE, a dataset scanned before is used: --dataset, or the only one.

    Only missing features are computed, so repeating a command costs nothing.

    On a cluster: --plan-only --parts N once, --part in each task of an array, and
    --publish once; with --exchange URL where machines share no disk.
    """
    from featcache.dataset.regions import Region
    from featcache.dataset.views import Policy

    parts = take_parts(settings)
    if parts["plan_only"] and is_given("on"):
        raise UsageError(
            "--plan-only without --on, which plans, computes and publishes",
            f"--on {settings['on']}",
            "Leave one of them out.",
        )
    if parts["part"] or parts["publish"]:
        _planned(cache, dataset, as_json, settings["max_bad"], parts)
        return
    if not names:
        raise click.MissingParameter(param_type="option", param_hint="'-b'")
    networks = resolve_networks(names, settings)
    grouping = take(
        settings, "group_by", "per_class", "on_conflict", "split_by", "pool"
    )
    settings["split_by"] = None if source else grouping.pop("split_by")
    manifest = _manifest(source, cache, dataset, grouping)
    region = Region.of_options(settings.pop("region"), settings.pop("mask"))
    draws = take(settings, "flip", "brightness", "zoom", "seed")
    settings["policy"] = Policy(**draws, region=region)
    if parts["plan_only"]:
        del settings["on"]
        settings |= take(parts, "parts", "part_rows", "exchange")
        extract_parts.make_plan(manifest, networks, as_json, settings)
        return
    _extract(manifest, networks, as_json, settings)


def _planned(
    cache: Path,
    dataset: str | None,
    as_json: bool,
    max_bad: float,
    parts: dict[str, Any],
) -> None:
    options = {name: parts[name] for name in ("plan", "exchange")}
    if parts["part"]:
        from featcache.dataset.manifest import find

        # The plan says which images.
        folder = None if parts["exchange"] else find(cache, dataset)
        extract_parts.compute(folder, parts["part"], as_json, options)
    else:
        manifest = open_dataset(cache, dataset)
        stores = extract_parts.publish(manifest, max_bad, options)
        _show(manifest, stores, as_json, of_tasks=True)


def _extract(
    manifest: "Manifest",
    networks: "Sequence[Network]",
    as_json: bool,
    settings: dict[str, Any],
) -> None:
    from featcache.commands.extract import extract

    with bars() as reporter:
        stores = extract(manifest, networks, reporter=reporter, **settings)
    _show(manifest, stores, as_json)


def _show(
    manifest: "Manifest",
    stores: "list[StoreResult]",
    as_json: bool,
    *,
    of_tasks: bool = False,
) -> None:
    if as_json:
        print_json([_record(store) for store in stores])
    else:
        for store in stores:
            show(_summary(store, of_tasks))
        show(f"Next: featcache train-head --dataset {quote(manifest.dataset)}")


def _manifest(
    source: "Location | None",
    cache: Path,
    dataset: str | None,
    grouping: dict[str, Any],
) -> "Manifest":
    """The manifest of a source that is scanned now, or was before."""
    if source:
        return scan_source(source, cache, dataset, brief=True, **grouping).manifest
    if any(value is not None for value in grouping.values()):
        raise UsageError(
            "--group-by, --per-class, --on-conflict and --pool need a SOURCE",
            "Give SOURCE, or omit these options; train-head has a --group-by of its "
            "own.",
        )
    return open_dataset(cache, dataset)


def _record(store: "StoreResult") -> dict[str, Any]:
    failures = [{"path": p, "reason": r} for p, r in store.failures]
    return vars(store) | {"path": store.path, "failures": failures}


def _summary(store: "StoreResult", of_tasks: bool) -> str:
    size = f" {store.input_size} px" if store.input_size else ""
    rows = f"{counted(store.rows, 'row')} of {counted(store.dim, 'feature')}"
    what = f"{store.backbone}{size} ({store.weights}): {rows}"
    if store.taps:
        what += f" and {counted(len(store.taps), 'tap')}"
    copied = f"{store.copied} copied" if store.copied else ""
    if not store.computed and not store.failures:
        return f"{what}, {copied or 'all cached'}. {store.path}"
    if store.engine:
        what += f" by {store.engine}"
    rate = store.computed / store.seconds if store.seconds else 0.0
    failed = f", {copied}" if copied else ""
    if store.failures:
        failed += f"; {counted(len(store.failures), 'image')} failed"
    of_all, each = (" of all tasks", " each") if of_tasks else ("", "")
    return (
        f"{what}, {store.computed} computed in {store.seconds:.1f} s{of_all} "
        f"({rate:.0f}/s{each}){failed}. {store.path}"
    )
