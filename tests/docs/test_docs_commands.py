"""Documents know every command: what they say of options and defaults is true."""

import re
from collections.abc import Callable
from typing import Any

import click
import pytest
from documents import COMMANDS, OF_COMMANDS, read, rows, section

from featcache import backbones
from featcache.backbones import BACKBONES, BASELINES, NETWORKS
from featcache.commands import bundle, cache, doctor
from featcache.commands.audit import audit
from featcache.commands.backbone.checking import check
from featcache.commands.backbone.describe import describe
from featcache.commands.backbone.export import export_backbone
from featcache.commands.backbone.listing import list_backbones
from featcache.commands.compare import METRICS, compare, sample_size
from featcache.commands.curve import curve
from featcache.commands.ensemble import ensemble
from featcache.commands.explain import explain
from featcache.commands.export import export
from featcache.commands.extract import (
    compute_parts,
    extract,
    plan_parts,
    publish_parts,
)
from featcache.commands.finetune import finetune
from featcache.commands.predict import check_format, predict
from featcache.commands.review import apply, open_session, queue_of, status
from featcache.commands.scan import scan
from featcache.commands.train_head import train_head
from featcache.commands.validate import validate
from featcache.core.options import parameters
from featcache.dataset import phantom, regions, views
from featcache.dataset.narrowing import narrow
from featcache.dataset.sources import SUFFIXES
from featcache.errors import FeatcacheError
from featcache.heads import HEADS
from featcache.report import validation_blocks
from featcache.report.heatmaps import sheets
from featcache.report.html import page
from featcache.serve.running import Listening
from featcache.serve.server import ServeOptions, serve
from featcache.study import demo
from featcache.study import run as run_study
from featcache.study.completion import complete
from featcache.study.retraining import retrain

INDEX = "docs/reference/commands.md"
# The fewest words with which each command parses.
LEAST = {
    "scan": ["here"],
    "finetune": ["-b", "densenet121"],
    "ensemble": ["all"],
    "explain": ["run"],
    "run": ["study.toml"],
    "review apply": ["--rule", "agree"],
    "predict": ["run", "scans"],
    "serve": ["model.fcb"],
    "export": ["run", "--to", "onnx", "-o", "model.onnx"],
    "validate": ["run", "elsewhere"],
    "bundle make": ["run", "-o", "model.fcb"],
    "bundle show": ["model.fcb"],
    "bundle verify": ["model.fcb"],
    "dataset rm": ["xrays"],
    "dataset rename": ["xrays", "chest"],
    "backbone describe": ["densenet121"],
    "backbone check": [__file__],
    "backbone export": ["timm:resnet50", "-o", "resnet50.onnx"],
    "cache info": ["store"],
    "cache export": ["store", "--to", "file.csv"],
}
# The library functions behind each command.
BEHIND: dict[str, list[Callable[..., Any]]] = {
    "scan": [scan],
    "extract": [
        *(extract, plan_parts, compute_parts, publish_parts),
        *(scan, views.Policy, regions.Region, backbones.resolve),
    ],
    "train-head": [train_head],
    "finetune": [finetune, views.Policy, backbones.resolve],
    "ensemble": [ensemble],
    "compare": [compare, page.write, sample_size],
    "curve": [curve, page.write],
    "explain": [explain, sheets.write],
    "audit": [audit, complete],
    "review open": [queue_of, open_session, Listening],
    "review apply": [apply],
    "review retrain": [retrain],
    "review status": [status],
    "run": [run_study],
    "demo": [demo.Demo, phantom.write],
    "predict": [predict, check_format],
    "serve": [serve, Listening, ServeOptions],
    "export": [export],
    "validate": [validate, scan, narrow, validation_blocks.check_file],
    "bundle make": [bundle.make_bundle],
    "bundle show": [bundle.show_bundle],
    "bundle verify": [bundle.verify_bundle],
    "dataset ls": [cache.ls_datasets],
    "dataset rm": [cache.remove_dataset],
    "dataset rename": [cache.rename_dataset],
    "cache ls": [cache.ls],
    "cache info": [cache.info],
    "cache verify": [cache.verify],
    "cache prune": [cache.prune],
    "cache compact": [cache.compact],
    "cache export": [cache.export],
    "backbone ls": [list_backbones],
    "backbone describe": [describe],
    "backbone check": [check],
    "backbone export": [export_backbone],
    "doctor": [doctor.doctor],
}
# Options that are the door's own business.
AT_THE_DOOR = {
    "array_part", "as_json", "as_list", "backbone", "cache", "complete", "confusion_of",
    "data_only",
    "dataset", "dry_run", "every",
    "file", "files", "head", "html", "inputs", "name", "names", "needed_by",
    "no_images", "no_refuse", "opens", "path", "png", "plan_only", "publish",
    "reference", "reference_of_run", "reports", "share",
    "source", "split", "store", "strict", "style",
}  # fmt: skip


def documented(command: str) -> dict[tuple[str, ...], str]:
    """Options of a command on its page, with the cell of their default."""
    return {
        tuple(re.findall(r"--?[a-zA-Z][\w-]*", row[0])): row[1]
        for row in rows(section(command))
        if row[0].startswith("`-")
    }


def options(command: str) -> dict[str, click.Option]:
    found = COMMANDS[command].params
    return {p.name: p for p in found if isinstance(p, click.Option) and p.name}


def defaults(command: str) -> dict[str, Any]:
    """What a command gets when nothing but the necessary is given."""
    words = list(LEAST.get(command, []))  # click empties the list
    return COMMANDS[command].make_context(command, words).params


def test_every_command_is_documented() -> None:
    """Each command has a page, which the index links to; nothing else has one."""
    pages = sorted(f"{name.replace(' ', '-')}.md" for name in COMMANDS)
    assert sorted(page.name for page in OF_COMMANDS.iterdir()) == pages
    linked = re.findall(r"\[`(.+?)`\]\(commands/(.+?)\)", read(INDEX))
    assert linked == [(name, f"{name.replace(' ', '-')}.md") for name in COMMANDS]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_is_documented(command: str) -> None:
    """The table of a command lists each option, with all its spellings."""
    spelled = {(*o.opts, *o.secondary_opts) for o in options(command).values()}
    assert set(documented(command)) == spelled


@pytest.mark.parametrize("command", COMMANDS)
def test_documented_defaults_are_the_commands(command: str) -> None:
    """A default in code is click's; one in words stands for click's None."""
    given, cells = defaults(command), documented(command)
    for name, option in options(command).items():
        cell = cells[(*option.opts, *option.secondary_opts)]
        if option.required:
            expected = "required"
        elif given[name] in (None, ()):
            assert "`" not in cell, option.opts
            continue
        else:
            expected = f"`{spell(given[name])}`"
        assert cell == expected, option.opts


def spell(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, tuple):
        return ",".join(map(spell, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


@pytest.mark.parametrize("command", COMMANDS)
def test_command_and_library_have_equal_defaults(command: str) -> None:
    """An option's default is that of the library's argument of the same name."""
    given = defaults(command)
    known = set(AT_THE_DOOR)
    for function in BEHIND[command]:
        for name, argument in parameters(function).items():
            known.add(name)
            default = getattr(argument.default, "kind", argument.default)  # a region
            if name in given and argument.default is not argument.empty:
                assert given[name] == default, (function, name)
    assert set(given) <= known


def test_backbones_and_heads_are_documented() -> None:
    """The tables of backbones and heads are those of the registries."""
    table = [
        [f"`{n}`", str(b.dim), f"{b.input_size} px", b.preprocess, f"`{b.file_name}`"]
        for n, b in NETWORKS.items()
    ]
    assert [r for r in rows(section("extract")) if r[0].strip("`") in NETWORKS] == table
    plain = [[f"`{name}`", str(BACKBONES[name].dim)] for name in BASELINES]
    found = [r[:2] for r in rows(section("extract")) if r[0].strip("`") in BASELINES]
    assert found == plain
    heads = [[f"`{name}`", row.about] for name, row in HEADS.items()]
    assert [r for r in rows(section("train-head")) if len(r) == 2][2:] == heads


def test_suffixes_are_documented() -> None:
    """The section of scan lists the suffixes of images."""
    assert set(re.findall(r"`(\.\w+)`", section("scan"))) == SUFFIXES


def test_metrics_are_documented() -> None:
    """The option --metric names every metric."""
    assert all(metric in section("compare") for metric in METRICS)


def test_exit_codes(run: Callable[..., tuple[int, str, str]]) -> None:
    """0 for done, 1 for a domain error in one line, 2 for usage, as documented."""
    assert run("--version")[0] == 0
    code, out, err = run("compare")
    assert (code, out, err.count("\n")) == (FeatcacheError.exit_code, "", 1)
    assert run("compare", "--no-such-option")[0] == 2
    found = [int(row[0]) for row in rows(read(INDEX)) if row[0].isdigit()]
    assert found == [0, 1, 2, 130, 143, 129]
