"""The demo: its network, and the whole of it from a terminal's point of view."""

import json
import os
import re
import shlex
import socket
import subprocess
import sys
import webbrowser
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner

from featcache import backbones
from featcache.cli import cli
from featcache.cli.demo import NEXT, open_page
from featcache.commands.backbone.checking import PASS, check
from featcache.study.demo import NETWORK


def test_the_network_is_small_and_says_what_it_is() -> None:
    """Below 1 MB; its descriptor names its licence, its script and its figures."""
    assert NETWORK.stat().st_size < 1_000_000
    network = backbones.resolve(str(NETWORK))
    assert (network.input_size, network.channels) == (160, 1)
    assert network.licence == "MIT"
    assert re.search(r"phantom_network\.py.*seed \d+.*right on", network.source)
    assert network.descriptor
    assert network.descriptor.canary


def test_the_network_passes_all_checks() -> None:
    """Its weights are those of its descriptor, its features those of its canary."""
    assert {one.status for one in check(NETWORK)} == {PASS}


def test_without_a_browser_the_report_is_only_named(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    """--open fails nowhere."""
    addresses: list[str] = []
    monkeypatch.setattr(webbrowser, "open", addresses.append)
    open_page(tmp_path / "a b.html")
    assert addresses == [f"{tmp_path.as_uri()}/a%20b.html"]
    assert "no browser" in capsys.readouterr().err


@dataclass(frozen=True)
class Call:
    """A demo that was run: where, and what it printed."""

    folder: Path
    output: str

    @property
    def commands(self) -> list[list[str]]:
        """The words of the commands that it printed."""
        lines = re.findall(r"^   featcache (.*)$", self.output, re.MULTILINE)
        return [shlex.split(line) for line in lines]


def demo(folder: Path, proxy: int) -> Call:
    """Runs the demo in a folder; a download would go to a proxy that is silent."""
    address = f"http://127.0.0.1:{proxy}"
    names = ("http_proxy", "https_proxy", "HTTPS_PROXY")
    environment = os.environ | dict.fromkeys(names, address)
    environment |= {"KERAS_HOME": str(folder / "keras")}
    words = ["-m", "featcache", "demo", "--images", "60", "--jobs", "1"]
    done = subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return Call(folder, done.stdout)


@pytest.fixture(scope="module")
def proxy() -> Iterator[socket.socket]:
    """Listens, and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        yield server


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory, proxy: socket.socket) -> Call:
    """A demo in a folder with an odd name."""
    folder = tmp_path_factory.mktemp("it's a demo")
    return demo(folder, proxy.getsockname()[1])


@pytest.mark.slow
def test_the_demo_goes_all_the_way(first: Call) -> None:
    """Eight steps, a leaderboard, answers and a refusal; the report comes last."""
    steps = re.findall(r"^(\d)\. ", first.output, re.MULTILINE)
    assert steps == list("12345678")
    for text in ("xgboost", "majority", "pixels48", "PASS", "p_COVID", "are right"):
        assert text in first.output
    assert "colours.png is refused: colour picture" in first.output
    assert "says nothing about X-rays" in first.output
    last = first.output.splitlines()[-1]
    report = first.folder / last.removeprefix("Report: ")
    assert "Where it looks" in report.read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_demo_asks_for_no_download(first: Call, proxy: socket.socket) -> None:
    """No connection was made to where downloads would go."""
    with pytest.raises(BlockingIOError):
        proxy.accept()


@pytest.mark.slow
def test_the_best_run_is_far_above_the_controls(first: Call) -> None:
    """The shipped network is worth its bytes: the first rank is no control's."""
    board = json.loads(call(first, "compare", "--dataset", "demo", "--json"))
    best = board[0]["accuracy"]
    controls = [one["accuracy"] for one in board if one["backbone"] != NETWORK.stem]
    assert len(controls) == 3
    assert best > 0.8
    assert best > max(controls) + 0.1


@pytest.mark.slow
def test_the_heat_maps_point_at_the_lesions(first: Call) -> None:
    """Their peaks lie in lesions at least three times as often as random points."""
    (path,) = first.folder.glob("reports/demo/explain/*/maps.json")
    figures = [row["figures"] for row in json.loads(path.read_text())["maps"]]
    pairs = [
        (one["pointing lesion"] or 0, one["area lesion"])
        for one in figures
        if "area lesion" in one
    ]
    inside, area = np.mean(pairs, axis=0)
    assert len(pairs) >= 6
    assert inside > 3 * area


def call(of: Call, *words: str) -> str:
    """What a command prints in the folder of a demo."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(of.folder)
        result = CliRunner().invoke(cli, words)
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.mark.slow
def test_the_printed_commands_do_what_the_demo_did(first: Call) -> None:
    """Each one parses; those that compute have nothing left to do."""
    assert [words[0] for words in first.commands] == [
        *("scan", "extract", "extract", "train-head", "train-head", "compare"),
        *("explain", "bundle", "bundle", "predict", "predict"),
        *(line.split()[1] for line in NEXT),
    ]
    for words in first.commands:
        if words[0] == "extract":
            assert "all cached" in call(first, *words)
        elif words[0] == "train-head":
            assert "nothing to do" in call(first, *words)
        else:
            command: click.Command = cli
            context = click.Context(cli)
            while isinstance(command, click.Group):
                name, command, words = command.resolve_command(context, words)
            command.make_context(name, words)


@pytest.mark.slow
def test_a_second_demo_does_nothing_again(first: Call, proxy: socket.socket) -> None:
    """Nothing is computed or trained, and the bundle stays the same file."""
    bundle = first.folder / "reports" / "demo" / "demo.fcb"
    before = bundle.stat().st_mtime_ns
    second = demo(first.folder, proxy.getsockname()[1])
    assert re.findall(r", (\d+) of them new", second.output) == ["0", "0"]
    assert bundle.stat().st_mtime_ns == before
    assert second.commands == first.commands
