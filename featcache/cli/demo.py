"""``featcache demo``."""

from pathlib import Path

import click

from featcache.cli.compare import print_board
from featcache.cli.options import (
    cache_option,
    jobs_option,
    options,
    refuse_ignored,
    reports_option,
    seed_option,
)
from featcache.cli.output import bars, show


@click.command("demo", short_help="Run a complete study on synthetic images.")
@options(
    click.option(
        "--data-only",
        type=click.Path(path_type=Path),
        metavar="DIR",
        help="Only write the synthetic images to DIR.",
    ),
    click.option(
        "--images",
        type=int,
        default=360,
        show_default=True,
        help="Number of images.",
    ),
    click.option(
        "--shortcut", is_flag=True, help="Plant a marker that gives away the class."
    ),
    click.option(
        "--small-lesions",
        is_flag=True,
        help="Draw findings as one small patch in one lung, 2 to 4 % of the lung area.",
    ),
    jobs_option,
)
@seed_option
@cache_option
@reports_option
def demo_command(
    data_only: Path | None,
    images: int,
    shortcut: bool,
    small_lesions: bool,
    jobs: int | None,
    seed: int,
    cache: Path,
    reports: Path,
) -> None:
    """Run a complete study on synthetic chest images; also works offline."""
    if data_only:
        from featcache.dataset import phantom

        refuse_ignored(
            ("jobs", "cache", "reports"),
            "--data-only without options of the study",
            "Leave them out: only images are written.",
        )
        with bars() as reporter:
            table = phantom.write(
                data_only,
                images,
                seed=seed,
                shortcut=shortcut,
                small_lesions=small_lesions,
                reporter=reporter,
            )
        show(f"{images} phantoms: {table}")
        return
    from featcache.study.demo import demo

    with bars() as reporter:
        ranked = demo(
            cache,
            reports,
            images=images,
            shortcut=shortcut,
            small_lesions=small_lesions,
            seed=seed,
            jobs=jobs,
            reporter=reporter,
        )
    print_board(ranked.board, "table")
    show(f"Images: {ranked.images}. Runs: {reports / 'demo' / 'runs'}.")
