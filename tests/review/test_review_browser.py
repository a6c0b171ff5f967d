"""The page of review in headless Chromium: keys, states, and a killed server."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import browsing
import numpy as np
import pandas as pd
import pytest
from browsing import CHROMIUM, DESKTOP, PHONE, chromium
from records import make_run
from toy_review import line
from toys import HEARS_CTRL_C, write_images

from featcache.commands.review import decisions as log
from featcache.commands.scan import scan
from featcache.dataset.manifest import Manifest
from featcache.evaluation import runs

pytest.importorskip("starlette", reason="needs the extra serve")
api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytestmark = [
    pytest.mark.skipif(not CHROMIUM, reason="no chromium: apt-get install chromium"),
    pytest.mark.slow,
]
STATES = ("blinded", "revealed", "finished")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as launched:
        yield launched


@pytest.fixture(scope="module")
def scanned(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """36 images in three classes, and a run that predicts each of them."""
    folder = tmp_path_factory.mktemp("review")
    write_images(folder / "chest")
    dataset = scan(folder / "chest", folder / "cache", group_by=r"(p\d{3})_").manifest
    p = np.random.default_rng(0).dirichlet(np.ones(3), 36)
    folds = pd.factorize(dataset.ok["group"])[0] % 3
    table = runs.predictions_table(dataset.ok, folds, p, dataset.classes)
    make_run(folder / "reports" / "chest", "logreg-toy-0000000001", table)
    return dataset


class Server:
    """``featcache review`` in a process of its own."""

    def __init__(self, dataset: Manifest, reader: str, port: int = 0) -> None:
        home = dataset.folder.parents[1]
        words = ["review", "--cache", str(home / "cache"), "--reader", reader,
                 "--reports", str(home / "reports"), "--queue", "random",
                 "--limit", "3", "--port", str(port)]  # fmt: skip
        code = f"{HEARS_CTRL_C}; from featcache.cli import main; main({words!r})"
        self.process = subprocess.Popen(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout
        self.address = self.process.stdout.readline().split()[-1]

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(re.findall(r":(\d+)/", self.address)[0])

    def stop(self, number: int = signal.SIGINT) -> int:
        """Ends it; what it exits with."""
        self.process.send_signal(number)
        self.process.communicate(timeout=30)
        return self.process.returncode


@pytest.fixture
def serve(scanned: Manifest) -> Iterator[Callable[..., Server]]:
    """Starts servers, and ends them."""
    servers: list[Server] = []

    def call(reader: str, port: int = 0) -> Server:
        servers.append(Server(scanned, reader, port))
        return servers[-1]

    yield call
    for server in servers:
        if server.process.poll() is None:
            server.stop()


class Visit(browsing.Visit):
    """An open page, whose image has been asked for."""

    def __init__(self, browser: Any, address: str, **options: Any) -> None:
        super().__init__(browser, address, **options)
        api.expect(self.page.locator("#progress")).not_to_be_empty()


def ready(page: Any) -> None:
    """Waits until the image can be answered."""
    api.expect(page.locator("#classes button").first).to_be_enabled()


def question(page: Any, text: str) -> None:
    """Waits until the page asks this, of an image that is there."""
    api.expect(page.locator("#question")).to_have_text(re.compile(text))
    ready(page)


def test_a_queue_by_its_keys(
    browser: Any, serve: Callable[..., Server], scanned: Manifest
) -> None:
    """Numbers answer, Enter keeps, u takes back, s skips; the end says so."""
    visit = Visit(browser, serve("ann").address)
    with visit as page:
        question(page, "What does it show")
        assert not page.locator("#reveal").is_visible()
        page.keyboard.press("2")
        question(page, "Keep your answer")
        api.expect(page.locator("#mine")).to_have_text("NORMAL")
        api.expect(page.locator("#reason")).to_have_text(
            "Drawn at random, as a control."
        )
        api.expect(page.locator("#probabilities tr")).to_have_count(3)
        page.keyboard.press("u")
        question(page, "You have seen the model")
        page.keyboard.press("1")
        question(page, "^What does it show")
        api.expect(page.locator("#progress")).to_have_text("1 of 3 done.")
        page.keyboard.press("s")
        api.expect(page.locator("#progress")).to_have_text("2 of 3 done.")
        ready(page)
        page.keyboard.press("n")
        page.keyboard.type("=1+1 u s 3")
        page.keyboard.press("Control+Enter")
        api.expect(page.locator("#notes li")).to_have_text("=1+1 u s 3")
        page.keyboard.press("3")
        question(page, "Keep your answer")
        page.keyboard.press("Enter")
        api.expect(page.locator("#finished-title")).to_be_focused()
        page.keyboard.press("u")
        question(page, "Keep your answer")
    assert visit.complaints == []
    own = visit.requests[0]
    assert all(url.startswith(own) or url == "data:," for url in visit.requests)
    events = [one.event for one in log.read(scanned.folder).of("ann")]
    assert events == [
        "answer", "undo", "final", "skip", "note", "answer", "final", "undo",
    ]  # fmt: skip


def test_two_windows_of_a_reader(
    browser: Any, serve: Callable[..., Server], scanned: Manifest
) -> None:
    """The second window is told, shows what is there, and writes nothing twice."""
    address = serve("two").address
    first, second = Visit(browser, address), Visit(browser, address)
    with first as one, second as other:
        ready(one)
        ready(other)
        one.keyboard.press("1")
        question(one, "Keep your answer")
        other.keyboard.press("2")
        question(other, "Keep your answer")
        api.expect(other.locator("#problem")).to_contain_text("another window")
        api.expect(other.locator("#mine")).to_have_text("COVID")
    assert len(log.read(scanned.folder).of("two")) == 1


def test_no_answer_before_the_image(
    browser: Any, serve: Callable[..., Server], scanned: Manifest
) -> None:
    """Until the next image is there, no key answers for it; one that fails says why."""
    held: list[Any] = []

    def hold(route: Any) -> None:
        """Keeps the first back; the second fails; the third says why."""
        held.append(route)
        if len(held) == 2:
            route.abort()
        if len(held) == 3:
            error = {"problem": "it is gone", "fix": "Skip it"}
            route.fulfill(status=422, json={"error": error})

    with Visit(browser, serve("fast").address) as page:
        ready(page)
        page.route("**/image/*", hold)
        with page.expect_request("**/image/*"):
            page.keyboard.press("s")
        api.expect(page.locator("#progress")).to_have_text("1 of 3 done.")
        page.keyboard.press("1")
        assert page.locator("#classes button").first.is_disabled()
        assert not page.locator("#image").is_visible()
        held[0].continue_()
        ready(page)
        page.keyboard.press("s")
        api.expect(page.locator("#progress")).to_have_text("2 of 3 done.")
        api.expect(page.locator("#no-image")).to_have_text("it is gone. Skip it")
        page.keyboard.press("1")
        assert page.locator("#classes button").first.is_disabled()
        page.keyboard.press("s")
        api.expect(page.locator("#finished")).to_be_visible()
    assert [one.event for one in log.read(scanned.folder).of("fast")] == ["skip"] * 3


def test_a_killed_server_loses_nothing(
    browser: Any, serve: Callable[..., Server], scanned: Manifest
) -> None:
    """After kill -9 the page says so, and goes on once the server runs again."""
    server = serve("kim")
    visit = Visit(browser, server.address)
    with visit as page:
        ready(page)
        page.keyboard.press("1")
        question(page, "Keep your answer")
        server.stop(signal.SIGKILL)
        page.keyboard.press("Enter")
        api.expect(page.locator("#problem")).to_contain_text("cannot be reached")
        serve("kim", server.port)
        page.keyboard.press("Enter")
        question(page, "^What does it show")
        assert not page.locator("#problem").is_visible()
    lines = log.read(scanned.folder).of("kim")
    assert [one.event for one in lines] == ["answer", "final"]


def test_a_browser_that_is_closed(browser: Any, serve: Callable[..., Server]) -> None:
    """An answer counts at once: the page comes back between answer and reveal."""
    address = serve("leo").address
    with Visit(browser, address) as page:
        ready(page)
        page.keyboard.press("3")
        question(page, "Keep your answer")
    with Visit(browser, address) as page:
        question(page, "Keep your answer")
        api.expect(page.locator("#mine")).to_have_text("Viral Pneumonia")


def test_ctrl_c_ends_it_quietly(serve: Callable[..., Server]) -> None:
    """Ctrl-C is the way to stop, and no error."""
    assert serve("eve").stop() == 0


def test_the_help_and_the_view(browser: Any, serve: Callable[..., Server]) -> None:
    """? lists the keys, Escape closes; w and l change the picture, r puts it back."""
    with Visit(browser, serve("pat").address) as page:
        page.keyboard.press("?")
        api.expect(page.locator("#help")).to_be_visible()
        page.keyboard.press("1")  # does not answer behind the help
        page.keyboard.press("Escape")
        api.expect(page.locator("#help")).not_to_be_visible()
        question(page, "What does it show")
        page.keyboard.press("w")
        page.keyboard.press("l")
        image = page.locator("#image")
        assert (
            image.evaluate("n => n.style.filter") == "brightness(1.15) contrast(1.15)"
        )
        page.keyboard.press("z")
        assert page.locator("#zoom").get_attribute("aria-pressed") == "true"
        page.keyboard.press("r")
        assert image.evaluate("n => n.style.filter") == ""


CONTRAST = """() => {
  const rgb = (text) => text.match(/[\\d.]+/g).slice(0, 3).map(Number);
  const linear = (v) => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  const lum = (c) => [0.2126, 0.7152, 0.0722]
    .reduce((sum, share, i) => sum + share * linear(c[i] / 255), 0);
  const ground = (node) => {
    for (; node; node = node.parentElement) {
      const colour = getComputedStyle(node).backgroundColor;
      if (!/, 0\\)$|transparent/.test(colour)) return rgb(colour);
    }
    return [255, 255, 255];
  };
  return [...document.querySelectorAll("body *")].filter((node) =>
    node.checkVisibility() && !node.disabled && !node.closest(":disabled")
    && [...node.childNodes].some((c) => c.nodeType === 3 && c.data.trim())
  ).map((node) => {
    const a = lum(rgb(getComputedStyle(node).color)), b = lum(ground(node));
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    return [ratio, node.outerHTML.slice(0, 60)];
  }).filter(([ratio]) => ratio < 4.5);
}"""
UNNAMED = """() => [
    ...document.querySelectorAll("button, textarea, img, progress, dialog")
  ].filter((node) => node.checkVisibility() && !node.ariaHidden)
  .filter((node) => !(node.innerText || node.alt || node.ariaLabel
    || node.labels?.[0]?.innerText || node.getAttribute("aria-labelledby")))
  .map((node) => node.outerHTML)"""
WIDE = "() => document.documentElement.scrollWidth - innerWidth"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_every_state_can_be_read(
    browser: Any,
    serve: Callable[..., Server],
    scheme: str,
    size: dict[str, int],
    request: pytest.FixtureRequest,
) -> None:
    """Contrast of 4.5, a name for each control, and no scrolling sideways."""
    server = serve(f"eyes {scheme} {size['width']}")
    folder = os.environ.get("FEATCACHE_SCREENSHOTS")
    visit = Visit(browser, server.address, viewport=size, color_scheme=scheme)
    with visit as page:
        for state in STATES:
            if state == "revealed":
                page.locator("#classes button").first.click()
                question(page, "Keep your answer")
            if state == "finished":
                page.keyboard.press("Enter")
                for _ in range(2):
                    question(page, "^What does it show")
                    done = page.locator("#progress").inner_text()
                    page.locator("#skip").click()
                    api.expect(page.locator("#progress")).not_to_have_text(done)
                api.expect(page.locator("#finished")).to_be_visible()
            assert page.evaluate(CONTRAST) == []
            assert page.evaluate(UNNAMED) == []
            assert page.evaluate(WIDE) <= 0
            if folder:
                name = f"{state}-{scheme}-{size['width']}.png"
                page.screenshot(path=Path(folder) / name, full_page=True)
    assert visit.complaints == []


def test_hostile_texts_stay_texts(
    browser: Any, serve: Callable[..., Server], scanned: Manifest
) -> None:
    """What looks like a tag in a note makes no element."""
    with Visit(browser, serve("<b>mia</b>").address) as page:
        page.locator("#note").fill('<img src=x onerror="alert(1)">')
        page.get_by_role("button", name="Save note").click()
        api.expect(page.locator("#notes li")).to_contain_text("<img src=x")
        assert page.locator("#notes img, #about b").count() == 0


def test_a_line_of_another_program(
    browser: Any, serve: Callable[..., Server], scanned: Manifest
) -> None:
    """Answers that another process wrote are there when the window is looked at."""
    with Visit(browser, serve("zoe").address) as page:
        first = page.locator("#image").get_attribute("data-id")
        with log.appending(scanned.folder) as appender:
            appender.append([line("zoe", 0, "", image_id=first, event="skip")])
        page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
        api.expect(page.locator("#progress")).to_have_text("1 of 3 done.")
