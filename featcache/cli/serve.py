"""``featcache serve``."""

from pathlib import Path

import click

from featcache.cli.listening import listening_options
from featcache.cli.options import files_option
from featcache.cli.output import Said, show


@click.command("serve", short_help="Answer for images on a web page and over HTTP.")
@click.argument(
    "bundles",
    metavar="BUNDLE...",
    nargs=-1,
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
)
@listening_options
@click.option(
    "--cache",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIRECTORY",
    help="Show similar training images from the datasets of this cache.",
)
@click.option(
    "--log-dir",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIRECTORY",
    help="Append a JSON line per answer to answers.jsonl there, without pixels and "
    "names.",
)
@click.option(
    "--max-mib",
    type=float,
    default=64.0,
    show_default=True,
    help="Largest request in MiB.",
)
@click.option(
    "--max-files",
    type=int,
    default=32,
    show_default=True,
    help="Most files in one request.",
)
@click.option(
    "--max-megapixels",
    type=float,
    default=50.0,
    show_default=True,
    help="Largest image in millions of pixels.",
)
@click.option(
    "--max-waiting",
    type=int,
    default=256,
    show_default=True,
    help="Images that may wait for a model.",
)
@click.option(
    "--batch-size",
    type=int,
    default=32,
    show_default=True,
    help="Most images in one pass.",
)
@files_option
def serve_command(
    bundles: tuple[Path, ...],
    host: str,
    port: int,
    token_file: Path | None,
    allow_host: tuple[str, ...],
    cache: Path | None,
    log_dir: Path | None,
    files: tuple[Path, ...],
    **limits: float,
) -> None:
    """Answer for images by each BUNDLE: a page for people, an API for programs.

    Prints the address. Nothing of an image is stored. Ctrl-C ends it.
    """
    from featcache.serve import require_pages

    require_pages()
    from featcache.serve.running import Listening
    from featcache.serve.server import ServeOptions, serve

    serve(
        bundles,
        Listening(host, port, token_file, allow_host),
        ServeOptions(**limits),  # type: ignore[arg-type]
        announce=show,
        cache=cache,
        log_dir=log_dir,
        files=files,
        reporter=Said(),
    )
