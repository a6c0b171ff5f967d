"""``featcache review``: open, apply, retrain and status."""

from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

import click

from featcache.cli.completion import complete_runs
from featcache.cli.listening import listening_of, listening_options
from featcache.cli.options import (
    cache_option,
    jobs_option,
    json_option,
    open_dataset_of_runs,
    reports_option,
    seed_option,
    take,
    trained_dataset_option,
)
from featcache.cli.output import bars, print_json, print_table, say, show
from featcache.core.text import counted
from featcache.errors import UsageError

if TYPE_CHECKING:
    from featcache.commands.review import Applied, Queue, ReviewStatus, Session
    from featcache.dataset.manifest import Manifest
    from featcache.serve.running import Listening
    from featcache.study.retraining import Retraining

_QUEUES = ("labels", "duplicates", "errors", "refused", "informative", "random")


class Opening(click.Group):
    """A group of which one command may be left out: ``review`` is ``review open``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Puts the word in where it is missing."""
        return super().parse_args(ctx, self._completed(ctx, args))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that is named, or the one that may be left out."""
        return super().resolve_command(ctx, self._completed(ctx, args))

    def _completed(self, ctx: click.Context, args: list[str]) -> list[str]:
        is_open = not args or (
            args[0].startswith("-") and args[0] not in ctx.help_option_names
        )
        return ["open", *args] if is_open else args


@click.group("review", cls=Opening, short_help="Let people put labels right.")
def review_group() -> None:
    """Let people put labels right, and make a new manifest of their answers.

    Without a further word: featcache review open.
    """


@review_group.command("open", short_help="Look at the images of a queue.")
@trained_dataset_option
@click.option(
    "--queue",
    type=click.Choice(_QUEUES),
    default="labels",
    show_default=True,
    help="Which images, and in which order.",
)
@click.option(
    "--limit",
    type=int,
    default=100,
    show_default=True,
    help="The most images of the queue.",
)
@click.option("--reader", metavar="NAME", help="Who answers; needed for the page.")
@click.option(
    "--list",
    "as_list",
    is_flag=True,
    help="Print the images and the reasons instead; not for who is to answer.",
)
@seed_option
@listening_options
@cache_option
@reports_option
@json_option
def open_command(
    dataset: str | None,
    reader: str | None,
    as_list: bool,
    cache: Path,
    reports: Path,
    as_json: bool,
    **settings: Any,
) -> None:
    """Show the images of a queue one at a time, the model hidden until the answer."""
    from featcache.commands.review import open_session, queue_of

    where = take(settings, "host", "port", "token_file", "allow_host")
    manifest = open_dataset_of_runs(cache, reports, dataset)
    if as_json or as_list:
        with bars() as reporter:
            queue = queue_of(manifest, reports, reporter=reporter, **settings)
        print_queue(manifest, queue, as_json=as_json)
        return
    if reader is None:
        raise UsageError(
            "`reader`, the name of who answers",
            "none",
            "Add it, such as --reader ann; or --list for the images alone.",
        )
    listening = listening_of(where)
    with bars() as reporter:
        session = open_session(
            manifest, reports, reader=reader, reporter=reporter, **settings
        )
    open_page(session, listening)


def open_page(session: "Session", listening: "Listening") -> None:
    """Serves the page until Ctrl-C."""
    from featcache.serve import review, running, tokens

    token = tokens.read_token(listening.token_file)
    sock = running.bind(listening.host, listening.port)

    def announce(address: str) -> None:
        show(f"Review {session.queue} as {session.reader}: {address}")

    card = session.card()
    say(f"{card.done} of {counted(card.total, 'image')} done. Stop with Ctrl-C.")
    running.run(
        review.app(session),
        listening,
        sock,
        token,
        announce=announce,
        report=say,
        limits=review.LIMITS,
    )


def print_queue(manifest: "Manifest", queue: "Queue", *, as_json: bool) -> None:
    """Prints the images of a queue, and why they are in it."""
    if as_json:
        print_json([vars(item) for item in queue.items])
        return
    paths = dict(zip(manifest.ok["image_id"], manifest.ok["path"], strict=True))
    rows = [[paths[item.image_id], item.reason] for item in queue.items]
    print_table([("image", False), ("reason", False)], rows)
    say(f"{len(queue.items)} of {counted(queue.total, 'image')} in queue {queue.name}.")


@review_group.command("apply", short_help="Make labels of the answers.")
@trained_dataset_option
@click.option(
    "--rule",
    required=True,
    metavar="agree|majority|reader:NAME",
    help="Whose answer becomes the label: that of all readers (two or more), of more "
    "than half of them, or of one.",
)
@click.option("--dry-run", is_flag=True, help="Say what would change; change nothing.")
@click.option(
    "--ignore-gone",
    is_flag=True,
    help="Apply the answers though some reviewed images are gone.",
)
@cache_option
@reports_option
@json_option
def apply_command(
    dataset: str | None,
    cache: Path,
    reports: Path,
    as_json: bool,
    **settings: Any,
) -> None:
    """Write a new manifest with the labels that readers gave; the old one is kept."""
    from featcache.commands.review import apply
    from featcache.core import records

    manifest = open_dataset_of_runs(cache, reports, dataset)
    applied = apply(manifest, reports, **settings)
    for line in applied.warnings:
        say(f"Warning: {line}")
    if as_json:
        print_json(records.to_json(applied))
    else:
        print_applied(applied, dry_run=settings["dry_run"])


def print_applied(applied: "Applied", *, dry_run: bool) -> None:
    """Prints what was changed and what stays, and how to train on it."""
    if applied.changes:
        names = [("image", False), ("before", False), ("after", False)]
        rows = [
            [c.path, c.before, c.after, ", ".join(c.readers)] for c in applied.changes
        ]
        print_table([*names, ("readers", False)], rows)
    if applied.open:
        say(f"The rule does not decide on {counted(len(applied.open), 'image')}:")
        for one in applied.open:
            say(f"  {one.path} stays {one.label} ({one.why})")
    if applied.gone:
        say(f"{counted(len(applied.gone), 'reviewed image')} gone from the dataset.")
    labels = counted(len(applied.changes), "label")
    confirmed = counted(applied.confirmed, "label")
    verb = "would be changed" if dry_run else "changed"
    show(f"{labels} {verb}, {confirmed} confirmed, {len(applied.open)} not decided.")
    if applied.version is None:
        return
    say(f"The old manifest is kept as manifests/{applied.version:04d}.csv.")
    if applied.run_id:
        show(
            "Train on the new labels, and compare before and after: "
            f"featcache review retrain --dataset {quote(applied.dataset)}"
        )
    else:
        show(f"Next: featcache train-head --dataset {quote(applied.dataset)}")


@review_group.command("retrain", short_help="Train on the new labels; compare.")
@click.argument(
    "reference", required=False, metavar="RUN", shell_complete=complete_runs
)
@trained_dataset_option
@jobs_option
@cache_option
@reports_option
@json_option
def retrain_command(
    reference: str | None,
    dataset: str | None,
    jobs: int | None,
    cache: Path,
    reports: Path,
    as_json: bool,
) -> None:
    """Train RUN again on the labels as they are, and compare it with the old one.

    By default RUN is the best run before the last correction.
    """
    from featcache.study.retraining import retrain

    references = [reference] if reference else []
    manifest = open_dataset_of_runs(cache, reports, dataset, references)
    with bars() as reporter:
        result = retrain(
            manifest, reports, reference=reference, jobs=jobs, reporter=reporter
        )
    if as_json:
        ids = {"before": result.before.run_id, "after": result.after.run_id}
        print_json(ids | {"parts": [vars(part) for part in result.parts]})
    else:
        print_retraining(result)


def print_retraining(result: "Retraining") -> None:
    """Prints the accuracy before and after, by the labels as they are."""
    before, after = result.before, result.after
    show(f"before {before.short_id} {before.run_id}")
    show(f"after  {after.short_id} {after.run_id}")
    headings = ["images", "groups", "new labels", "before", "after", "difference"]
    rows = [
        [
            one.part,
            *map(str, (one.images, one.groups, one.relabelled)),
            *(f"{share:.3f}" for share in (one.before, one.after)),
            f"{one.difference:+.3f}",
            f"{one.low:+.3f} to {one.high:+.3f}",
            f"{one.p:.3f}",
        ]
        for one in result.parts
    ]
    columns = [("part", False), *((name, True) for name in headings)]
    print_table([*columns, ("95 %", True), ("p", True)], rows)
    show(
        "Accuracy of both by the labels as they are, in pairs over groups. By its old "
        "labels, the old run had "
        + ", ".join(f"{one.before_old:.3f} ({one.part})" for one in result.parts)
        + "."
    )


@review_group.command("status", short_help="Count answers; agreement of readers.")
@trained_dataset_option
@cache_option
@reports_option
@json_option
def status_command(
    dataset: str | None, cache: Path, reports: Path, as_json: bool
) -> None:
    """Count the answers by reader and queue, with Cohen's kappa of each two readers."""
    from featcache.commands.review import status
    from featcache.core import records

    result = status(open_dataset_of_runs(cache, reports, dataset))
    for line in result.warnings:
        say(f"Warning: {line}")
    if as_json:
        print_json(records.to_json(result))
    else:
        print_status(result)


def print_status(status: "ReviewStatus") -> None:
    """Prints the counts, and how far readers agree."""
    if not status.counts:
        say(f"Nobody has reviewed {status.dataset} yet. Run: featcache review")
        return
    names = ("answered", "skipped", "changed", "contradicted")
    rows = [
        [c.reader, c.queue, *(str(getattr(c, n)) for n in names)] for c in status.counts
    ]
    headings = [("reader", False), ("queue", False), *((name, True) for name in names)]
    print_table(headings, rows)
    for one in status.agreements:
        pair = " and ".join(one.readers)
        if one.kappa is None:
            show(f"{pair}: no image that both have answered before the reveal")
            continue
        k = one.kappa
        interval = f"{k.interval[0]:.2f} to {k.interval[1]:.2f}"
        kappa = f"kappa {k.value:.2f} (95 %: {interval})"
        if k.value != k.value:
            kappa = "no kappa, as both always gave the same one answer"
        show(
            f"{pair}: {kappa}, same answer to {k.observed:.0%} of "
            f"{counted(k.images, 'image')} of {counted(k.groups, 'group')}"
        )
    if status.gone:
        say(f"{counted(status.gone, 'answered image')} gone from the dataset.")
