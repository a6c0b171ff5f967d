"""Writes docs/reference/licences.md: what a plain install and each extra bring.

    make licences

Which packages these are is read from requirements.lock, where each names those that
ask for it; their licences from the metadata that pip fetches without installing them.
"""

import json
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/reference/licences.md"
CORE, SELF = "core", "featcache"
# Words of a licence: how it differs from those that ask for no more than a notice.
KINDS = {
    "copyleft": r"\bA?GPL|GNU General",
    "weak copyleft": r"LGPL|Lesser|MPL|Mozilla|EPL|CDDL",
    "not open source": r"proprietary|NVIDIA|other/",
}
INTRO = """\
# Licences of the packages

What a plain install of featcache and each of its extras bring on Linux, with the
versions of `requirements.lock`, and the licence that each package states. None is part
of featcache, whose own licence is [MIT](../../LICENSE): pip fetches them. The page is
written by `make licences`.

"""


def packages() -> dict[str, tuple[str, set[str]]]:
    """Version and parents of every package in the lock."""
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    blocks = re.findall(r"^([\w.-]+)==(\S+).*\n((?:    #.*\n)*)", text, re.MULTILINE)
    return {
        name: (version, set(re.findall(r"#\s+(?:via )?([\w.-]+)", comment)) - {"via"})
        for name, version, comment in blocks
    }


def wanted_by() -> dict[str, list[str]]:
    """Package to what brings it: the core, or else the extras that do."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"]
    core = _below(project["dependencies"])
    by_package = {name: [CORE] for name in sorted(core)}
    for extra in sorted(set(extras) - {"dev", "docs"}):
        for name in sorted(_below(extras[extra]) - core):
            by_package[name] = [*by_package.get(name, []), extra]
    return dict(sorted(by_package.items()))


def _below(needs: Iterable[str]) -> set[str]:
    """The packages that are asked for, and all that these ask for."""
    lock = packages()
    names = {re.split(r"[^\w.-]", need)[0] for need in needs}
    while more := {n for n, (_, parents) in lock.items() if parents & names} - names:
        names |= more
    return names & set(lock)


def metadata_of(names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """What packages state of themselves, by their name in the lock."""
    lock = packages()
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        pins = [f"{name}=={lock[name][0]}" for name in names]
        options = ["--dry-run", "--ignore-installed", "--no-deps", "--quiet"]
        pip = ["tool", "run", "--python", sys.executable, "--from", "pip>=25.1", "pip"]
        command = [sys.executable, "-m", "uv", *pip, "install", *options]
        subprocess.run([*command, "--report", report, *pins], check=True)
        entries = json.loads(report.read_text(encoding="utf-8"))["install"]
    stated = [entry["metadata"] for entry in entries]
    return {re.sub(r"[-_.]+", "-", one["name"]).lower(): one for one in stated}


def licence_of(stated: dict[str, Any]) -> str:
    """The licence of a package, as its metadata name it."""
    if expression := stated.get("license_expression"):
        return str(expression)
    listed = stated.get("classifier", [])
    titles = [c.split(" :: ")[-1] for c in listed if c.startswith("License ::")]
    titles = [title for title in titles if title != "OSI Approved"]
    text = stated.get("license", "").strip().split("\n")[0].strip()
    return ", ".join(titles) or text or "not stated"


def kind_of(licence: str) -> str:
    """What to know of a licence; empty where a notice is all that it asks for."""
    kinds = [kind for kind, words in KINDS.items() if re.search(words, licence, re.I)]
    return kinds[-1] if kinds else ""


def page() -> str:
    """The text of the page."""
    lock, lines, marked = packages(), [], []
    stated = metadata_of(wanted_by())
    for name, extras in wanted_by().items():
        licence = licence_of(stated[name]).replace("|", "/")
        row = f"| {name} | {lock[name][0]} | {licence} | {', '.join(extras)} |"
        lines.append(row)
        if kind := kind_of(licence):
            marked.append(f"| {name} | {kind} | {licence} | {', '.join(extras)} |")
    return INTRO + "\n".join(
        [
            "## Licences that ask for more than a notice",
            *("| package | kind | licence | comes with |", "| --- | --- | --- | --- |"),
            *marked,
            *("", "## All packages"),
            *(
                "| package | version | licence | comes with |",
                "| --- | --- | --- | --- |",
            ),
            *(*lines, ""),
        ]
    )


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
