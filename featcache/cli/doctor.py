"""``featcache doctor``."""

import sys
from collections import Counter, defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from featcache.cli.options import cache_option, json_option, reports_option
from featcache.cli.output import print_json, print_table, show

if TYPE_CHECKING:
    from featcache.commands.doctor import Check


@click.command(
    "doctor", short_help="Check the installation, devices, weights and disk."
)
@click.option(
    "--offline", is_flag=True, help="Do not check whether weights can be downloaded."
)
@click.option(
    "--all",
    "every",
    is_flag=True,
    help="Show the weights of all networks, not only of classic5.",
)
@click.option("--deep", is_flag=True, help="Also start TensorFlow.")
@cache_option
@reports_option
@json_option
def doctor_command(
    cache: Path, reports: Path, offline: bool, every: bool, deep: bool, as_json: bool
) -> None:
    """Check versions, devices, weights and disk: PASS, WARN or FAIL, with a fix."""
    from featcache.commands.doctor import FAIL, doctor

    checks = doctor(cache, reports, offline=offline, deep=deep)
    if as_json:
        print_json([vars(check) for check in checks])
    else:
        hidden = [] if every else [check for check in checks if _is_further(check)]
        _print(checks, hidden)
    if any(check.status == FAIL for check in checks):
        sys.exit(1)


def _is_further(check: "Check") -> bool:
    """Whether it is of weights that few need, and that are not damaged."""
    from featcache.backbones import CLASSIC5

    kind, _, name = check.name.partition(" ")
    is_damaged = check.result.startswith("damaged")
    return kind == "weights" and name not in CLASSIC5 and not is_damaged


def _print(checks: "list[Check]", hidden: "list[Check]") -> None:
    from featcache.commands.doctor import PASS
    from featcache.core.text import counted, some

    visible = [check for check in checks if check not in hidden]
    headings = [("", False), ("check", False), ("result", False)]
    print_table(headings, [[c.status, c.name, c.result] for c in visible])
    fixes: dict[tuple[str, str], list[Check]] = defaultdict(list)
    for check in visible:
        if check.fix:
            fixes[check.status, check.fix].append(check)
    for (status, fix), group in fixes.items():
        show(f"{status} {some([check.name for check in group], 3)}: {fix}")
        for check in group:
            if check.details:
                show(f"  {check.details}")
    if hidden:
        n_local = sum(check.status == PASS for check in hidden)
        networks = counted(len(hidden), "more network")
        local = f"weights of {n_local} on this machine"
        show(f"{networks} ({local}): featcache doctor --all")
    counts = Counter(check.status for check in visible)
    show(", ".join(f"{counts[s]} {s}" for s in ("PASS", "WARN", "FAIL")))
