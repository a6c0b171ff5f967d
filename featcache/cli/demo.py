"""``featcache demo``."""

from pathlib import Path

import click

from featcache.cli.common import (
    bars,
    cache_option,
    options,
    reports_option,
    say,
    seed_option,
)


@click.command(short_help="Run everything once on generated phantoms.")
@options(
    click.option(
        "--data-only",
        type=click.Path(path_type=Path),
        metavar="DIR",
        help="Write the phantoms to DIR and stop.",
    ),
    click.option("--images", type=int, default=360, show_default=True),
    click.option(
        "--shortcut", is_flag=True, help="Plant a marker that gives the class away."
    ),
    click.option(
        "--jobs", type=int, metavar="N", help="Parallel processes.  [default: cores]"
    ),
)
@seed_option
@cache_option
@reports_option
def demo(
    data_only: Path | None,
    images: int,
    shortcut: bool,
    jobs: int | None,
    seed: int,
    cache: Path,
    reports: Path,
) -> None:
    """Run everything once on generated chest phantoms, offline if need be."""
    if data_only:
        from featcache.dataset import phantom

        with bars() as update:
            table = phantom.write(
                data_only,
                images,
                seed=seed,
                shortcut=shortcut,
                progress=lambda done, total: update("phantoms", done, total),
            )
        click.echo(f"{images} phantoms: {table}")
        return
    from featcache.cli.compare import print_board
    from featcache.study.demo import demo as work

    with bars() as update:
        result = work(
            cache,
            reports,
            images=images,
            shortcut=shortcut,
            seed=seed,
            jobs=jobs,
            progress=update,
            message=say,
        )
    print_board(result.board, "table")
    click.echo(f"Images: {result.images}. Runs: {reports / 'demo' / 'runs'}.")
