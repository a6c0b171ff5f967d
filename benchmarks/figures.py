"""Writes docs/reference/benchmarks.md from the tables of all benchmarks.

    python benchmarks/figures.py
    python benchmarks/figures.py --run
    python benchmarks/figures.py --run --only extract heads --aucmedi PYTHON

With ``--run`` (`make figures`) the benchmarks are run before, in their short forms;
figures.toml lists them. One that needs what is not there is left out, with the reason.
Nothing is measured here: the page shows what the scripts have appended to their tables,
of each row the median over its latest run.
"""

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
import textwrap
import time
import tomllib
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from measurements import read

HERE = Path(__file__).parent
PAGE = "docs/reference/benchmarks.md"
OTHERS = {
    "aucmedi": "AUCMEDI",
    "autogluon": "AutoGluon",
    "cleanlab": "cleanlab[datalab]",
    "torch": "the extra torch",
}
SAME_RUN = timedelta(hours=1)  # rows of a run are appended within it
HEAD = """\
# Benchmarks

<!-- Written by `python benchmarks/figures.py`; a test compares it with the tables. -->

Each benchmark is a script in `benchmarks/` that prints a table and appends every
measurement to a CSV file of the same name, with machine, versions and date. This page
is made from these files. A row shows the medians over its latest run, `n` is the number
of measurements, and the first command above a table is that of the whole measurement.

`make figures` runs all of them in a short form and then writes this page anew; `make
figures ONLY=extract` runs one. X-rays and pretrained networks are those in
`$FEATCACHE_REAL_DATA`. Other tools have environments of their own, which
`benchmarks/others.txt` describes; `OTHERS="--aucmedi PYTHON"` names one to `make
figures`. A benchmark, or a tool, that is not there is left out, with a message.

Most figures come from a machine that other work shared. `load` is the number of
processes that wanted a core in the minute before: above the number of cores, seconds on
the clock are longer than they would be, and CPU seconds somewhat. Ratios are safer
where variants took turns; where they ran one after the other, the text says so.
"""
Row = dict[str, str]


@dataclass(frozen=True)
class Table:
    """One table of the page; see figures.toml.

    Attributes:
        by: Columns that name a row.
        figures: Columns of numbers.
        texts: Columns that are shown as they are.
        where: Values that rows have to have.
        ratio: What is divided by that of which row.
    """

    by: list[str]
    figures: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    where: dict[str, Any] = field(default_factory=dict)
    ratio: dict[str, str] = field(default_factory=dict)

    def selected(self, rows: list[Row]) -> list[Row]:
        """The rows that it is made of."""
        values = {
            column: one if isinstance(one, list) else [one]
            for column, one in self.where.items()
        }
        return [
            row for row in rows if all(row.get(c) in ones for c, ones in values.items())
        ]


@dataclass(frozen=True)
class Benchmark:
    """One benchmark; see figures.toml."""

    name: str
    question: str
    command: str
    short: str
    minutes: int
    limits: str
    tables: list[Table]
    needs: list[str] = field(default_factory=list)


def benchmarks(folder: Path = HERE) -> list[Benchmark]:
    """What figures.toml lists."""
    listed = tomllib.loads((folder / "figures.toml").read_text("utf-8"))["benchmark"]
    return [
        Benchmark(**one | {"tables": [Table(**table) for table in one["tables"]]})
        for one in listed
    ]


def latest(rows: list[Row], by: list[str]) -> list[list[Row]]:
    """Of each name of a row the measurements of its latest run, names in order."""
    named = defaultdict(list)
    for row in rows:
        named[tuple(row[column] for column in by)].append(row)
    runs = []
    for name in sorted(named, key=lambda name: [_sortable(value) for value in name]):
        ones = named[name]
        start = max(_when(one) for one in ones) - SAME_RUN
        runs.append([one for one in ones if _when(one) > start])
    return runs


def _when(row: Row) -> datetime:
    return datetime.fromisoformat(row["date"])


def _sortable(value: str) -> tuple[float, str]:
    number = _number(value)
    return (0.0, value) if number is None else (number, "")


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def median(run: list[Row], column: str) -> float | None:
    """The median of a column of numbers; None where no row has one."""
    numbers = [_number(row[column]) for row in run]
    known = [number for number in numbers if number is not None]
    return statistics.median(known) if known else None


def shown(number: float | None) -> str:
    """A number with four digits, or all before the point."""
    if number is None:
        return ""
    if abs(number) >= 1000:
        return f"{number:,.0f}"
    return f"{number:.4g}" if abs(number) >= 0.001 or not number else f"{number:.1e}"


def ratios(runs: list[list[Row]], table: Table) -> list[float | None]:
    """Of each run how many times as much (or as fast) the reference needs."""
    column, figure = table.ratio["column"], table.ratio["figure"]
    others = [name for name in table.by if name != column]
    medians = [median(run, figure) for run in runs]
    reference = {
        tuple(run[0][name] for name in others): value
        for run, value in zip(runs, medians, strict=True)
        if run[0][column] == table.ratio["one"]
    }
    divided = []
    for run, value in zip(runs, medians, strict=True):
        one = reference.get(tuple(run[0][name] for name in others))
        divided.append(one / value if one and value else None)
    return divided


def lines(table: Table, rows: list[Row]) -> list[str]:
    """A table in markdown, and below it where its figures come from."""
    runs = latest(table.selected(rows), table.by)
    if not runs:
        return ["Not measured yet."]
    columns: dict[str, list[str]] = {
        name: [_named(run[0][name]) for run in runs] for name in table.by
    }
    columns |= {c: [shown(median(run, c)) for run in runs] for c in table.figures}
    if table.ratio:
        name = f"{table.ratio['figure']}: {table.ratio['one']} / this"
        columns[name] = [shown(value) for value in ratios(runs, table)]
    columns |= {c: [run[-1][c] for run in runs] for c in table.texts}
    columns["n"] = [str(len(run)) for run in runs]
    days = [run[-1]["date"][:10] for run in runs]
    if len(set(days)) > 1:
        columns["date"] = days
    align = [
        "---" if c in (*table.by, *table.texts, "date") else "---:" for c in columns
    ]
    cells = [list(columns), align, *zip(*columns.values(), strict=True)]
    return [*("| " + " | ".join(row) + " |" for row in cells), "", sources(runs)]


def _named(text: str) -> str:
    number = _number(text)
    whole = number is not None and number >= 10_000
    return f"{number:,.0f}" if whole and number is not None else text


def sources(runs: list[list[Row]]) -> str:
    """Machines, versions and dates of what a table shows."""
    days: dict[str, set[str]] = defaultdict(set)
    for run in runs:
        for row in run:
            other = row.get("other_versions") or ""
            versions = _versions(f"{row['versions']} {other}")
            days[f"{row['machine']}; {versions}"].add(row["date"][:10])
    merged = _without_parts(days)
    return "  \n".join(
        f"*{', '.join(sorted(when))}: {about}.*" for about, when in merged.items()
    )


def _versions(text: str) -> str:
    pairs = re.findall(r"(\S+) (\S+)", text)
    known = dict.fromkeys(f"{n} {v}" for n, v in pairs if v != "none")
    return ", ".join(known)


def _without_parts(days: dict[str, set[str]]) -> dict[str, set[str]]:
    """Leaves out what a longer list of versions says too."""
    longest = sorted(days, key=len, reverse=True)
    kept: dict[str, set[str]] = {}
    for about in longest:
        whole = next(
            (k for k in kept if set(about.split(", ")) <= set(k.split(", "))), ""
        )
        kept.setdefault(whole or about, set()).update(days[about])
    return kept


def quoted_in(name: str, root: Path) -> list[str]:
    """Links to the pages that name a benchmark's script or table."""
    page = root / PAGE
    links = []
    for path in sorted([root / "README.md", *(root / "docs").rglob("*.md")]):
        if path == page or not path.exists():
            continue
        if re.search(rf"benchmarks/{name}\.(py|csv)", path.read_text("utf-8")):
            title = path.read_text("utf-8").split("\n", 1)[0].lstrip("# ")
            link = os.path.relpath(path, page.parent).replace(os.sep, "/")
            links.append(f"[{title}]({link})")
    return links


def wrapped(text: str) -> str:
    """Lines of 88 letters, as everywhere in the documents; links stay whole."""
    short = " ".join(text.split())
    return textwrap.fill(short, 88, break_long_words=False, break_on_hyphens=False)


def section(benchmark: Benchmark, folder: Path) -> list[str]:
    """What the page says of one benchmark."""
    path = folder / f"{benchmark.name}.csv"
    rows = read(path) if path.exists() else []
    text = [f"## {benchmark.name}", wrapped(benchmark.question), ""]
    text += ["```sh", f"python benchmarks/{benchmark.command}"]
    text += [f"make figures ONLY={benchmark.name}", "```", ""]
    for table in benchmark.tables:
        text += [*lines(table, rows), ""]
    text += [wrapped(f"**What falls short.** {benchmark.limits}")]
    if links := quoted_in(benchmark.name, folder.parent):
        text += ["", wrapped(f"Quoted in: {', '.join(links)}.")]
    return [*text, ""]


def overview(listed: list[Benchmark]) -> list[str]:
    """The table of all benchmarks, with the minutes of their short forms."""
    needs = {"real": "`$FEATCACHE_REAL_DATA`", "torch": "PyTorch"}
    rows = ["| benchmark | question | minutes | needs |", "| --- | --- | ---: | --- |"]
    for one in listed:
        wanted = ", ".join(needs[need] for need in one.needs)
        link = f"[{one.name}](#{one.name})"
        rows.append(f"| {link} | {one.question} | {one.minutes} | {wanted} |")
    total = sum(one.minutes for one in listed)
    note = (
        "Minutes are of the short forms without other tools, estimated from earlier "
        f"runs for two cores without other work; all together about {total}."
    )
    return [*rows, "", wrapped(note)]


def page(folder: Path = HERE) -> str:
    """The whole page."""
    listed = benchmarks(folder)
    text = [HEAD, *overview(listed), ""]
    for one in listed:
        text += section(one, folder)
    return "\n".join(text).rstrip() + "\n"


def missing(benchmark: Benchmark, paths: dict[str, str]) -> str:
    """Why a benchmark cannot run; empty if it can."""
    if "real" in benchmark.needs and "real" not in paths:
        return "needs $FEATCACHE_REAL_DATA"
    if "torch" in benchmark.needs and "torch" not in paths:
        return "needs --torch PYTHON, of an environment that has it"
    return ""


def words(benchmark: Benchmark, paths: dict[str, str]) -> list[str]:
    """The short form, without options of what is not there."""
    known = []
    for word in benchmark.short.split():
        names = re.findall(r"\{(\w+)\}", word)
        if all(name in paths for name in names):
            known.append(word.format(**paths))
        else:
            print(f"{benchmark.name}: {word.split('=')[0]} PYTHON is not given")
    return known


def run(listed: list[Benchmark], paths: dict[str, str], folder: Path = HERE) -> None:
    """Runs the short forms one after the other."""
    for benchmark in listed:
        if reason := missing(benchmark, paths):
            print(f"{benchmark.name} is left out: {reason}", flush=True)
            continue
        python = paths["torch"] if "torch" in benchmark.needs else sys.executable
        started = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="featcache-figures-") as scratch:
            script, *options = words(benchmark, paths | {"scratch": scratch})
            command = [python, str(folder / script), *options]
            print("\n$ " + " ".join(command), flush=True)
            code = subprocess.run(command, check=False).returncode
        minutes = (time.monotonic() - started) / 60
        print(f"{benchmark.name}: {minutes:.1f} minutes", flush=True)
        if code:
            sys.exit(f"{benchmark.name} ended with exit code {code}.")


def main(folder: Path = HERE) -> None:
    """Runs what is wanted, and writes the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    listed = benchmarks(folder)
    names = [one.name for one in listed]
    parser.add_argument("--run", action="store_true", help="measure before")
    parser.add_argument("--only", nargs="+", choices=names, default=names)
    for name, tool in OTHERS.items():
        parser.add_argument(f"--{name}", metavar="PYTHON", help=f"one that has {tool}")
    options = parser.parse_args()
    paths = {name: getattr(options, name) for name in OTHERS}
    paths["real"] = os.environ.get("FEATCACHE_REAL_DATA")
    if options.run:
        wanted = [one for one in listed if one.name in options.only]
        run(wanted, {name: path for name, path in paths.items() if path}, folder)
    target = folder.parent / PAGE
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(page(folder), encoding="utf-8")


if __name__ == "__main__":
    main()
