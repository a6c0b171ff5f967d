"""The door: commands parse, call one function each, and render.

Command modules import nothing heavy at the top, so that ``--help`` is instant.
"""

import sys
from collections.abc import Sequence
from typing import Any, NoReturn

import click

from featcache.cli import (
    audit,
    backbone,
    bundle,
    cache,
    compare,
    curve,
    dataset,
    demo,
    doctor,
    ensemble,
    explain,
    export,
    extract,
    finetune,
    predict,
    review,
    run,
    scan,
    serve,
    train_head,
    validate,
)
from featcache.cli.output import folders, one_line_warnings
from featcache.cli.spelling import spelled
from featcache.cli.stopping import Interrupted, stop_on_signals
from featcache.core.text import printable
from featcache.errors import FeatcacheError

_INTERRUPTED = "Interrupted. Finished work is kept: run the same command to resume."
_OF_COMMAND = {
    "curve": "Interrupted. The fits are not kept: run the same command to start again.",
    "explain": "Interrupted. Only what was written is kept: run the same command to "
    "start again.",
}
# The stages of a study, in the order in which a person comes to them.
STAGES: dict[str, tuple[click.Command, ...]] = {
    "Data": (
        scan.scan_command,
        dataset.dataset_group,
        audit.audit_command,
        review.review_group,
    ),
    "Features": (
        extract.extract_command,
        cache.cache_group,
        backbone.backbone_group,
    ),
    "Heads": (
        train_head.train_head_command,
        finetune.finetune_command,
        ensemble.ensemble_command,
    ),
    "Evaluation": (
        compare.compare_command,
        curve.curve_command,
        explain.explain_command,
        validate.validate_command,
    ),
    "Use": (
        bundle.bundle_group,
        predict.predict_command,
        serve.serve_command,
        export.export_command,
    ),
    "General": (run.run_command, demo.demo_command, doctor.doctor_command),
}


class Staged(click.Group):
    """A group whose help lists its commands by stage."""

    def invoke(self, ctx: click.Context) -> Any:
        """Runs the command that was named."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as cause:
            raise Interrupted(cause, ctx.invoked_subcommand or "") from cause
        except FeatcacheError as error:  # here, where the call's folders are known
            _fail(f"Error: {error}", error.exit_code)

    def format_commands(
        self, ctx: click.Context, formatter: click.HelpFormatter
    ) -> None:
        """Writes a section for each stage, its command names in one column."""
        widest = max(map(len, self.commands))
        for stage, commands in STAGES.items():
            with formatter.section(stage):
                formatter.write_dl(
                    [
                        (f"{command.name:{widest}}", command.get_short_help_str(60))
                        for command in commands
                    ]
                )


@click.group(cls=Staged, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="featcache")
def cli() -> None:
    """Run each frozen backbone once, then compare heads in seconds.

    The usual order: extract, train-head, compare. Try `featcache demo` first.
    """


for command in (command for commands in STAGES.values() for command in commands):
    cli.add_command(command)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line and exits.

    Exit codes: 0 done, 1 a domain error, 2 usage, 130 interrupted, 143 and 129 ended by
    SIGTERM and SIGHUP.
    """
    try:
        with stop_on_signals(), one_line_warnings():
            sys.exit(cli.main(arguments, standalone_mode=False))
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except Interrupted as stop:
        _fail(_OF_COMMAND.get(stop.command, _INTERRUPTED), stop.exit_code)
    except (click.Abort, KeyboardInterrupt):
        _fail(_INTERRUPTED, 130)
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output has left; nothing to say
        sys.exit(1)
    except OSError as error:
        _fail(f"Error: {_explain(error)}", 1)


def _explain(error: OSError) -> str:
    where = error.filename or "the cache or reports folder"
    return (
        f"{where} could not be read or written: {error.strerror or error}. "
        "Check the disk's space and permissions; finished work is kept: run the same "
        "command to resume."
    )


def _fail(text: str, code: int) -> NoReturn:
    line = " ".join(spelled(text, cli).split())
    click.echo(printable(folders().complete(line)), err=True)
    sys.exit(code)
