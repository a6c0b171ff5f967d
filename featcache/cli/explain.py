"""``featcache explain``."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from featcache.cli.completion import complete_runs
from featcache.cli.options import (
    cache_option,
    files_option,
    json_option,
    open_dataset_of_runs,
    options,
    reports_option,
    run_split_option,
    seed_option,
    trained_dataset_option,
)
from featcache.cli.output import bars, print_json, print_table, say, show
from featcache.core.text import counted, percent

if TYPE_CHECKING:
    from featcache.commands.explain import ExplainResult, Figure

choice_options = options(
    click.option(
        "--errors", type=int, metavar="N", help="The N most confident errors."
    ),
    click.option(
        "--per-class",
        type=int,
        metavar="N",
        help="N images of each class.  [default: 3 if no other images are selected]",
    ),
    click.option(
        "--class",
        "of",
        metavar="predicted|true|all|NAME",
        help="Class to explain.  [default: predicted; with --errors also true]",
    ),
    click.option(
        "--source",
        type=click.Path(exists=True, file_okay=False, path_type=Path),
        help="Folder to search for images that have moved.",
    ),
    files_option,
)
how_options = options(
    click.option(
        "--method",
        "methods",
        multiple=True,
        default=("auto",),
        show_default=True,
        metavar="NAME",
        help="auto, linear, treeshap, integrated-gradients, gradient-input, shapley, "
        "cam, grad-cam, grad-cam++, hirescam or occlusion; may be repeated.",
    ),
    click.option(
        "--patch",
        type=int,
        default=32,
        show_default=True,
        metavar="PX",
        help="Side of the occlusion patch.",
    ),
    click.option(
        "--stride",
        type=int,
        default=16,
        show_default=True,
        metavar="PX",
        help="Step between occlusion patches.",
    ),
    click.option(
        "--mean",
        type=int,
        default=100,
        show_default=True,
        metavar="N",
        help="Images per class in the mean maps; 0 for no mean maps.",
    ),
    click.option(
        "--activations",
        default="none",
        show_default=True,
        metavar="none|default|LAYER,...",
        help="Draw the strongest channels of these layers.",
    ),
    click.option(
        "--faithfulness",
        is_flag=True,
        help="Measure how faithful the maps are to the model, by method.",
    ),
    click.option(
        "--mask",
        "masks",
        multiple=True,
        default=("mask", "lesion"),
        show_default=True,
        metavar="COLUMN",
        help="Manifest column with the mask files; may be repeated.",
    ),
    click.option(
        "--cells",
        is_flag=True,
        help="Draw the cells of each map (its true resolution).",
    ),
    seed_option,
)


_LEGEND = (
    "p: probability of the class; score: what the head gives it, before calibration; "
    "base: the score without evidence from this image; map sum: all evidence in the "
    "map; evenly: share of the evidence that has no place in the image"
)


@click.command("explain", short_help="Map where in an image a head finds evidence.")
@click.argument("reference", metavar="RUN", shell_complete=complete_runs)
@click.argument("images", nargs=-1)
@choice_options
@how_options
@run_split_option
@trained_dataset_option
@cache_option
@reports_option
@json_option
def explain_command(
    reference: str,
    cells: bool,
    split: str | None,
    dataset: str | None,
    cache: Path,
    reports: Path,
    as_json: bool,
    **settings: Any,
) -> None:
    """Map where in an image the head of RUN finds evidence for a class.

    IMAGES are files, paths from the manifest, or beginnings of image ids.
    """
    from featcache.commands.explain import explain
    from featcache.evaluation import references
    from featcache.report.heatmaps import sheets

    manifest = open_dataset_of_runs(cache, reports, dataset, [reference])
    run = references.find(reports / manifest.dataset, reference, split)
    folder = reports / manifest.dataset / "explain" / run.run_id

    def keep(result: "ExplainResult") -> None:
        sheets.write(result, folder, cells=cells)
        say(f"Written so far: {folder}")

    with bars() as reporter:
        explained = explain(manifest, run, keep=keep, reporter=reporter, **settings)
    rows = sheets.write(explained, folder, cells=cells)
    for note in explained.notes:
        say(f"Note: {note}.")
    if as_json:
        print_json(rows)
        return
    print_maps(rows)
    print_figures(explained.figures)
    show(_LEGEND)
    show(f"{counted(len(rows), 'map')} of run {run.short_id} in {folder}")


def print_maps(rows: list[dict[str, Any]]) -> None:
    """Prints a line a map on stdout."""
    head = [("image", False), ("label", False), ("class", False), ("p", True),
            ("method", False), ("score", True), ("base", True), ("map sum", True),
            ("evenly", True)]  # fmt: skip
    print_table(
        head,
        [
            [
                *(Path(r["path"]).name, r["label"] or "-", r["class"]),
                *(f"{r['probability']:.3f}", r["method"], f"{r['score']:+.3f}"),
                "-" if r["base"] is None else f"{r['base']:+.3f}",
                "-" if r["base"] is None else f"{r['map_sum']:+.3f}",
                percent(r["even_share"]),
            ]
            for r in rows
        ],
    )


def print_figures(figures: "list[Figure]") -> None:
    """Prints a table of faithfulness on stdout: a line a class and method."""
    names = list(dict.fromkeys(figure.name for figure in figures))
    if not names:
        return
    cells = {(f.label, f.method, f.name): f for f in figures}
    lines = dict.fromkeys((f.label, f.method) for f in figures)
    head = [("class", False), ("method", False), ("images", True)]
    table = []
    for label, method in lines:
        own = [cells.get((label, method, name)) for name in names]
        most = max(f.images for f in own if f)
        texts = [
            f"{f.value:.3f} [{f.low:.3f}, {f.high:.3f}]" if f else "-" for f in own
        ]
        table.append([label, method, str(most), *texts])
    print_table([*head, *((name, True) for name in names)], table)
