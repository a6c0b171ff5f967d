"""``featcache extract`` in parts: plan, part and publish, for arrays of tasks."""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

import click

from featcache.cli.options import is_given, options, take
from featcache.cli.output import bars, print_json, show
from featcache.cli.scan import Place
from featcache.core.text import counted
from featcache.errors import UsageError

if TYPE_CHECKING:
    from featcache.backbones import Network
    from featcache.commands.extract import PartResult, PlanResult, StoreResult
    from featcache.dataset.manifest import Manifest
    from featcache.dataset.urls import Location

AUTO = "auto"
# Where Slurm, Kubernetes and AWS Batch say which task of an array this is.
TASK_VARIABLES = (
    "SLURM_ARRAY_TASK_ID",
    "JOB_COMPLETION_INDEX",
    "AWS_BATCH_JOB_ARRAY_INDEX",
)
_RANGE = re.compile(r"(\d{1,7})(?:-(\d{1,7}))?")
# What goes with --part and --publish; all else is fixed in the plan.
_OF_PLANS = {"dataset", "cache", "as_json", "array_part", "publish", "plan", "exchange"}
_OF_WORKERS = {"as_json", "array_part", "plan", "exchange"}  # that share no cache

parts_options = options(
    click.option(
        "--plan-only",
        is_flag=True,
        help="Compute nothing, but write a plan of --parts or --part-rows.",
    ),
    click.option("--parts", type=int, metavar="N", help="Number of parts of a plan."),
    click.option(
        "--part-rows",
        type=int,
        metavar="N",
        help="Instead of --parts, embeddings of a backbone in each part.",
    ),
    click.option(
        "--part",
        "array_part",  # `part` is another option of compare
        is_flag=False,
        flag_value=AUTO,
        metavar="I,...",
        help="Compute only these parts of a plan, from 0. Without a number, the "
        f"task's own: {', '.join(TASK_VARIABLES)}.",
    ),
    click.option(
        "--publish",
        is_flag=True,
        help="Publish a plan whose parts are all computed, or list the missing ones.",
    ),
    click.option(
        "--plan",
        metavar="ID",
        help="Plan of --part or --publish.  [default: the only one of the dataset]",
    ),
    click.option(
        "--exchange",
        type=Place(),
        metavar="URL",
        help="Folder in an object store, such as s3://bucket/folder, for machines that "
        "share no disk: --plan-only uploads the plan, --part needs nothing else, and "
        "--publish fetches the parts.",
    ),
)


def take_parts(settings: dict[str, Any]) -> dict[str, Any]:
    """Takes the options of parts out of the rest.

    Raises:
        UsageError: They contradict one another, or other options would be ignored.
    """
    words = take(
        settings, "plan_only", "parts", "part_rows", "array_part", "publish", "plan"
    ) | take(settings, "exchange")
    words["part"] = words.pop("array_part")
    modes = [name for name in ("plan_only", "part", "publish") if words[name]]
    if len(modes) > 1:
        raise UsageError(
            "one of --plan-only, --part and --publish",
            " and ".join(f"--{name.replace('_', '-')}" for name in modes),
            "They are three calls: plan once, compute each part, publish once.",
        )
    if modes == ["part"]:
        _refuse_planned(_OF_WORKERS if words["exchange"] else _OF_PLANS)
    elif modes == ["publish"]:
        _refuse_planned(_OF_PLANS | {"max_bad"})
    elif words["plan"]:
        raise UsageError("--plan with --part or --publish", "neither", "Add one.")
    elif (words["parts"] or words["part_rows"]) and not words["plan_only"]:
        raise UsageError(
            "--parts and --part-rows with --plan-only", "no --plan-only", "Add it."
        )
    elif words["exchange"] and not words["plan_only"]:
        raise UsageError(
            "--exchange with --plan-only, --part or --publish",
            "none of them",
            "Add one.",
        )
    return words


def _refuse_planned(allowed: set[str]) -> None:
    params = click.get_current_context().command.params
    ignored = [
        p.opts[0]
        for p in params
        if p.name and p.name not in allowed and is_given(p.name)
    ]
    if ignored:
        raise UsageError(
            "--part and --publish without what the plan says",
            ", ".join(ignored),
            "Leave it out; to change it, plan again.",
        )


def numbers_of(text: str) -> list[int]:
    """The parts that a text such as "3,17-19" names; "auto" asks the environment.

    Raises:
        UsageError: It names none.
    """
    origin = "--part"
    if text == AUTO:
        origin = next((name for name in TASK_VARIABLES if os.environ.get(name)), "")
        if not origin:
            raise UsageError(
                "the number of this task in an array",
                f"none of {', '.join(TASK_VARIABLES)}",
                "Name the part, such as --part 3.",
            )
        text = os.environ[origin]
    matches = [_RANGE.fullmatch(word.strip()) for word in text.split(",")]
    ranges = [(int(m[1]), int(m[2] or m[1])) for m in matches if m]
    if len(ranges) < len(matches) or any(low > high for low, high in ranges):
        raise UsageError(
            f"numbers of parts in {origin}, such as 3,17-19", repr(text), "Correct it."
        )
    return [number for low, high in ranges for number in range(low, high + 1)]


def make_plan(
    manifest: "Manifest",
    networks: "Sequence[Network]",
    as_json: bool,
    settings: dict[str, Any],
) -> None:
    """Writes a plan and says what to do with it."""
    from featcache.commands.extract import plan_parts

    del settings["max_bad"]  # counted when the parts are published
    with bars() as reporter:
        plan = plan_parts(manifest, networks, reporter=reporter, **settings)
    if as_json:
        print_json(vars(plan))
    else:
        _show_plan(plan, manifest.dataset, settings["exchange"])
        if plan.path and plan.parts < (settings["parts"] or 0):
            show("These are fewer parts than asked for: a part is at least a batch.")


def _show_plan(plan: "PlanResult", dataset: str, exchange: "Location | None") -> None:
    if not plan.path:
        show("All cached: there is nothing to plan.")
        return
    rows = ", ".join(f"{name} {count}" for name, count in plan.rows.items())
    done = f", {plan.done} of them computed already" if plan.done else ""
    show(f"Plan {plan.plan}: {counted(plan.parts, 'part')}{done}; rows: {rows}.")
    command, tasks = f"featcache extract --dataset {quote(dataset)}", plan.parts - 1
    if exchange:
        option = f"--exchange {quote(str(exchange))}"
        worker = f"featcache extract {option} --plan {plan.plan} --part"
        show(f"Next, in each task of an array 0-{tasks}, on any machine: {worker}")
        show(f"Then: {command} {option} --publish")
        return
    show(f"Next: sbatch --array=0-{tasks} --wrap {quote(f'{command} --part')}")
    show(f"Then: {command} --publish")


def compute(
    dataset: Path | None, text: str, as_json: bool, options: dict[str, Any]
) -> None:
    """Computes parts and says so.

    Args:
        dataset: Its folder; None for a plan that is at an exchange.
        text: Which parts.
        as_json: Whether to print JSON.
        options: The plan; and the exchange, if there is one.
    """
    from featcache.commands.extract import compute_exchanged, compute_parts

    numbers = numbers_of(text)
    with bars() as reporter:
        if dataset is None:
            parts = compute_exchanged(parts=numbers, reporter=reporter, **options)
        else:
            plan = options["plan"]
            parts = compute_parts(dataset, numbers, plan=plan, reporter=reporter)
    if as_json:
        print_json([_record(part) for part in parts])
        return
    for part in parts:
        failed = ""
        if part.failures:
            failed = f"; {counted(len(part.failures), 'image')} failed"
        show(
            f"part {part.part} of plan {part.plan}: {counted(part.rows, 'row')} "
            f"computed in {part.seconds:.1f} s{failed}. {part.path}"
        )


def _record(part: "PartResult") -> dict[str, Any]:
    failures = [{"path": p, "reason": r} for p, r in part.failures]
    return vars(part) | {"failures": failures}


def publish(
    manifest: "Manifest", max_bad: float, options: dict[str, Any]
) -> "list[StoreResult]":
    """Publishes a plan."""
    from featcache.commands.extract import publish_parts

    with bars() as reporter:
        return publish_parts(manifest, max_bad=max_bad, reporter=reporter, **options)
