"""``featcache scan`` and ``featcache extract``."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from featcache.cli.common import (
    bars,
    cache_option,
    dataset_option,
    json_option,
    open_dataset,
    print_json,
    region_options,
    say,
    scan_source,
    seed_option,
    source_options,
)
from featcache.errors import UsageError

if TYPE_CHECKING:
    from featcache.commands.extract import StoreResult
    from featcache.commands.scan import ScanResult
    from featcache.dataset.views import Policy


class Range(click.ParamType[tuple[float, float]]):
    """Two numbers ``LO,HI``."""

    name = "LO,HI"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[float, float]:
        """Parses the text; a pair passes."""
        if isinstance(value, tuple):
            return value
        try:
            low, high = (float(part) for part in value.split(","))
        except ValueError:
            self.fail(f"{value!r} is not two numbers such as 0.8,1.25", param, ctx)
        return low, high


@click.command(short_help="List and check the images of a source.")
@click.argument("source", type=click.Path(path_type=Path))
@dataset_option
@source_options
@cache_option
@json_option
def scan(
    source: Path, dataset: str | None, cache: Path, as_json: bool, **settings: Any
) -> None:
    """List the images of SOURCE: a folder or zip, one folder a class, or a CSV."""
    result = scan_source(source, cache, dataset, **settings)
    if as_json:
        print_json(_scan_record(result))
    else:
        click.echo(_scan_summary(result))


def _scan_record(result: "ScanResult") -> dict[str, Any]:
    return {
        "dataset": result.manifest.dataset,
        "manifest": result.manifest.folder / "manifest.csv",
        "classes": result.counts,
        "groups": result.n_groups,
        "group_by": result.manifest.settings.group_by,
        "duplicates": result.duplicates,
        "unreadable": [{"path": p, "reason": r} for p, r in result.unreadable],
        "warnings": result.warnings,
    }


def _scan_summary(result: "ScanResult") -> str:
    classes = ", ".join(
        f"{label} = {i} ({count} images)"
        for i, (label, count) in enumerate(result.counts.items())
    )
    return (
        f"{result.manifest.dataset}: {sum(result.counts.values())} images of "
        f"{result.n_groups} groups (by {result.manifest.settings.group_by}); "
        f"{result.duplicates} duplicates left out, {len(result.unreadable)} "
        f"unreadable.\nClasses: {classes}.\n"
        f"Manifest: {result.manifest.folder / 'manifest.csv'}"
    )


@click.command(short_help="Run frozen backbones and keep the features.")
@click.argument("source", type=click.Path(path_type=Path), required=False)
@dataset_option
@click.option(
    "-b",
    "--backbone",
    "names",
    multiple=True,
    required=True,
    metavar="NAME",
    help="A backbone, the path of a .keras file, classic5 for the five networks of the "
    "2021 notebook (densenet121, resnet50, vgg19, inceptionv3, xception), or baselines "
    "for features without a network (metadata, pixels48, border); may be repeated.",
)
@click.option(
    "--views",
    type=int,
    default=0,
    show_default=True,
    help="Augmented views of each image beside the plain one.",
)
@click.option(
    "--flip/--no-flip", default=True, show_default=True, help="Views may be mirrored."
)
@click.option(
    "--brightness",
    type=Range(),
    default=(0.8, 1.25),
    help="Views are brightened by a factor in this range.  [default: 0.8,1.25]",
)
@click.option(
    "--zoom",
    type=Range(),
    default=(1.0, 1.2),
    help="Views are magnified by a factor in this range.  [default: 1,1.2]",
)
@region_options
@click.option(
    "--weights",
    default="imagenet",
    show_default=True,
    metavar="imagenet|random|FILE",
)
@click.option(
    "--preprocess",
    default="imagenet",
    show_default=True,
    metavar="imagenet|torch|caffe|tf|none|featurewise",
    help="Input scaling; imagenet is the one that belongs to the backbone, featurewise "
    "gives the training images mean 0 and variance 1 a channel.",
)
@click.option("--input-size", type=int, metavar="PX", help="Side of the input.")
@click.option(
    "--taps",
    default="none",
    show_default=True,
    metavar="none|default|LAYER,...",
    help="Inner layers to pool and keep beside the embedding; default is the ends of "
    "the backbone's blocks.",
)
@click.option(
    "--tap-pooling",
    default="avg",
    show_default=True,
    metavar="avg|avg+max",
    help="Keep the average of each tap's map, or the maximum as well.",
)
@click.option(
    "--engine",
    default="auto",
    show_default=True,
    metavar="auto|tensorflow|openvino",
    help="auto is TensorFlow on a GPU and OpenVINO on a CPU.",
)
@click.option(
    "--precision",
    default="float32",
    show_default=True,
    metavar="float32|int8",
    help="int8 quantises the network: several times faster on recent CPUs, a little "
    "less exact, and a store of its own.",
)
@click.option(
    "--dtype",
    default="float32",
    show_default=True,
    metavar="float32|float16",
    help="How embeddings are stored.",
)
@click.option("--batch-size", type=int, default=32, show_default=True)
@seed_option
@click.option(
    "--max-bad",
    type=float,
    default=0.05,
    show_default=True,
    help="Share of unreadable images above which the command fails.",
)
@source_options
@cache_option
@json_option
def extract(
    source: Path | None,
    dataset: str | None,
    names: tuple[str, ...],
    cache: Path,
    as_json: bool,
    **given: Any,
) -> None:
    """Run frozen backbones over SOURCE (or a scanned --dataset) and keep the features.

    Only what is missing is computed; a call for what is there costs nothing.
    """
    from featcache.commands import extract as work

    networks = _networks(names, given)
    settings = {k: given[k] for k in ("group_by", "per_class", "on_conflict")}
    if source:
        manifest = scan_source(source, cache, dataset, **settings).manifest
    elif any(settings.values()):
        raise UsageError(
            "a SOURCE with --group-by, --per-class or --on-conflict",
            "none",
            "Give SOURCE again, or leave these options out.",
        )
    else:
        manifest = open_dataset(cache, dataset)
    with bars() as update:
        results = work.extract(
            manifest,
            networks,
            policy=_policy(given),
            progress=update,
            message=say,
            **{k: given[k] for k in _PASSED_ON},
        )
    if as_json:
        print_json([_store_record(result) for result in results])
    else:
        for result in results:
            click.echo(_store_summary(result))


_PASSED_ON = (
    *("views", "taps", "tap_pooling", "engine", "precision", "dtype"),
    *("batch_size", "max_bad"),
)


def _policy(given: dict[str, Any]) -> "Policy":
    from featcache.dataset.regions import Region
    from featcache.dataset.views import Policy

    drawn = {k: given[k] for k in ("flip", "brightness", "zoom", "seed")}
    return Policy(**drawn, region=Region(given["region"], given["mask"]))


def _networks(names: tuple[str, ...], given: dict[str, Any]) -> list[Any]:
    from featcache.backbones import resolve_all

    words = {k: given[k] for k in ("weights", "preprocess", "input_size", "seed")}
    return resolve_all(names, message=say, **words)


def _store_record(result: "StoreResult") -> dict[str, Any]:
    failures = [{"path": p, "reason": r} for p, r in result.failures]
    return vars(result) | {"path": result.path, "failures": failures}


def _store_summary(result: "StoreResult") -> str:
    what = f"{result.backbone} ({result.weights}): {result.rows} x {result.dim}"
    if result.taps:
        what += f" and {len(result.taps)} taps"
    if not result.computed and not result.failures:
        return f"{what}, all cached. {result.path}"
    if result.engine:
        what += f" by {result.engine}"
    rate = result.computed / result.seconds if result.seconds else 0.0
    failed = f"; {len(result.failures)} images failed" if result.failures else ""
    return (
        f"{what}, {result.computed} computed in {result.seconds:.1f} s "
        f"({rate:.0f}/s){failed}. {result.path}"
    )
