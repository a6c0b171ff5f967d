"""Options of commands that serve a page."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from featcache.cli.options import options

if TYPE_CHECKING:
    from featcache.serve.running import Listening

# The fields of `serve.running.Listening`.
listening_options = options(
    click.option(
        "--host",
        default="127.0.0.1",
        show_default=True,
        metavar="ADDRESS",
        help="Listen on this address. Others than those of this machine need a token.",
    ),
    click.option(
        "--port",
        type=int,
        default=8000,
        show_default=True,
        help="Listen on this port; 0 takes a free one.",
    ),
    click.option(
        "--token-file",
        type=click.Path(dir_okay=False, path_type=Path),
        metavar="FILE",
        help="Ask clients for the token in FILE.  [default: $FEATCACHE_TOKEN, else "
        "none on this machine, and a new one elsewhere]",
    ),
    click.option(
        "--allow-host",
        multiple=True,
        metavar="NAME",
        help="Answer to this name too, such as that of a proxy; may be repeated.",
    ),
)


def listening_of(settings: dict[str, Any]) -> "Listening":
    """Where a page listens, of these options.

    Raises:
        FeatcacheError: The extra that serves pages is not installed.
    """
    from featcache.serve import require_pages

    require_pages()
    from featcache.serve.running import Listening

    return Listening(**settings)
