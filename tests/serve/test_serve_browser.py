"""The page of ``featcache serve`` in headless Chromium."""

import json
import re
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import browsing
import pytest
from browsing import CHROMIUM, DESKTOP, PHONE, chromium
from PIL import Image
from toys import slow_but

from featcache.dataset.manifest import Manifest
from featcache.serve.drawing import RESEARCH


def test_colours_have_contrast() -> None:
    """Text is at least 4.5 to 1 on what it stands on, in light and in dark."""
    css = (resources.files("featcache.serve") / "static" / "pages.css").read_text()
    schemes = [
        dict(re.findall(r"--([\w-]+): (#\w{6});", block))
        for block in re.findall(r":root \{(.*?)\}", css, re.DOTALL)
    ]
    assert len(schemes) == 2
    for colours in schemes:
        pairs = [("on-accent", "accent")] + [
            (text, ground)
            for text in ("text", "soft", "accent", "good", "warn", "bad")
            for ground in ("ground", "raised")
        ]
        for text, ground in pairs:
            light, dark = sorted(luminance(colours[c]) for c in (text, ground))[::-1]
            assert (light + 0.05) / (dark + 0.05) >= 4.5, (text, ground)


def luminance(colour: str) -> float:
    """Relative luminance by WCAG."""
    parts = [int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5)]
    linear = [
        p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_the_page_asks_nobody_else() -> None:
    """No address of another host, no inline script or style, no markup from text."""
    static = resources.files("featcache.serve") / "static"
    for name in ("serve.html", "serve.js", "serve.css", "pages.css"):
        text = (static / name).read_text()
        assert not re.search(r"https?://", text), name
        for word in (
            "innerHTML",
            "insertAdjacentHTML",
            "eval(",
            " style=",
            " onclick=",
        ):
            assert word not in text, (name, word)


api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
in_browser = pytest.mark.skipif(not CHROMIUM, reason="no chromium: apt-get install")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as launched:
        yield launched


@pytest.fixture(scope="module")
def files(
    dataset_and_bundles: tuple[Manifest, Any], tmp_path_factory: pytest.TempPathFactory
) -> list[str]:
    """Training images, a picture of another kind, and a text with a tag for a name."""
    dataset, _ = dataset_and_bundles
    folder = tmp_path_factory.mktemp("files")
    Image.new("RGB", (300, 40), (255, 0, 0)).save(folder / "red.png")
    text = folder / "<b>text<b>.png"
    text.write_text("no image")
    paths = [str(dataset.root / path) for path in dataset.ok["path"].iloc[:6]]
    return [*paths, str(folder / "red.png"), str(text)]


class Visit(browsing.Visit):
    """An open page, which knows its bundles."""

    def __init__(self, browser: Any, address: str, **options: Any) -> None:
        super().__init__(browser, address, **options)
        self.page.wait_for_selector("#bundle option", state="attached")

    def choose(self, files: list[str]) -> None:
        """Chooses files and waits for their answers."""
        self.page.set_input_files("#files", files)
        self.page.wait_for_selector(f"#list li:nth-child({len(files)})")
        self.page.wait_for_selector("#list .wait", state="detached")

    def __enter__(self) -> "Visit":
        return self


@in_browser
def test_a_whole_visit(browser: Any, address: str, files: list[str]) -> None:
    """Keys lead through images, map and help; no complaint, nothing from elsewhere."""
    with Visit(browser, address) as visit:
        page = visit.page
        visit.choose(files)
        ok = page.locator("#list button.ok")
        api.expect(ok.first).to_be_visible()
        ok.first.click()
        api.expect(page.locator("#status")).to_have_text("Accepted")
        assert page.locator("#probabilities tbody tr").count() == 3
        api.expect(page.locator("#trained-on")).to_be_visible()
        api.expect(page.locator("#similar img")).to_have_count(5)
        page.keyboard.press("h")
        api.expect(page.locator("#overlay")).to_be_visible()
        api.expect(page.locator("#map-text")).to_contain_text("of the map")
        page.keyboard.press("h")
        api.expect(page.locator("#overlay")).to_be_hidden()
        page.locator("#list button").nth(6).click()
        api.expect(page.locator("#status")).to_have_text("Refused")
        api.expect(page.locator("#of-class")).to_be_hidden()
        page.keyboard.press("ArrowRight")
        api.expect(page.locator("#status")).to_have_text("Unreadable")
        page.keyboard.press("ArrowRight")  # there is none
        assert page.locator("#list [aria-current=true] span").inner_text() == (
            "<b>text<b>.png"
        )
        assert page.locator("#list b").count() == 0
        page.keyboard.press("ArrowLeft")
        api.expect(page.locator("#status")).to_have_text("Refused")
        page.keyboard.press("?")
        api.expect(page.locator("#help")).to_be_visible()
        page.keyboard.press("Escape")
        api.expect(page.locator("#help")).to_be_hidden()
    assert visit.complaints == []
    local = (address, "data:", f"blob:{address}")
    assert [url for url in visit.requests if not url.startswith(local)] == []


@pytest.mark.slow
@in_browser
def test_window_and_level(browser: Any, address: str, files: list[str]) -> None:
    """Keys and dragging change them and the picture; 0 is as it came."""
    with Visit(browser, address) as visit:
        page, text = visit.page, visit.page.locator("#window")
        visit.choose(files[:1])
        api.expect(text).to_have_text("Window 255, level 128 (of 8 bits)")
        page.wait_for_selector("#stage:not([hidden])")
        before = page.locator("#canvas").evaluate("node => node.toDataURL()")
        page.keyboard.press("w")
        page.keyboard.press("L")
        api.expect(text).to_have_text("Window 245, level 133 (of 8 bits)")
        after = page.locator("#canvas").evaluate("node => node.toDataURL()")
        assert after != before
        page.keyboard.press("0")
        api.expect(text).to_have_text("Window 255, level 128 (of 8 bits)")
        box = page.locator("#stage").bounding_box()
        page.mouse.move(box["x"] + 100, box["y"] + 100)
        page.mouse.down()
        page.mouse.move(box["x"] + 150, box["y"] + 80)
        page.mouse.up()
        api.expect(text).to_have_text("Window 305, level 138 (of 8 bits)")


@pytest.mark.slow
@in_browser
def test_another_bundle_answers(browser: Any, address: str, files: list[str]) -> None:
    """Choosing it asks again; where it has no map, the reason is said."""
    with Visit(browser, address) as visit:
        page = visit.page
        visit.choose(files[:6])
        page.locator("#bundle").select_option("mlp")
        page.wait_for_selector("#list .wait", state="detached")
        page.locator("#list button.ok").first.click()
        page.locator("#map").click()
        api.expect(page.locator("#map-text")).to_contain_text("No heat map: its head")


@pytest.mark.slow
@in_browser
def test_what_is_saved(browser: Any, address: str, files: list[str]) -> None:
    """Each button gives a file of its kind, and DICOM says whose study it is."""
    heads = {"PNG": b"\x89PNG", "JSON": b"{", "DICOM picture (SC)": b"DICM"}
    with Visit(browser, address, accept_downloads=True) as visit:
        page = visit.page
        visit.choose(files[:1])
        for name, head in heads.items():
            with page.expect_download() as download:
                page.get_by_role("button", name=name, exact=True).click()
            data = Path(download.value.path()).read_bytes()
            assert data.startswith(head) or data[128:132] == head
            if name == "JSON":
                assert json.loads(data)["intended_use"] == RESEARCH
        api.expect(page.locator("#save-text")).to_contain_text("study is made up")


@in_browser
@pytest.mark.parametrize("viewport", slow_but([DESKTOP, PHONE], PHONE))
def test_it_fits_and_is_labelled(
    browser: Any, address: str, files: list[str], viewport: dict[str, int]
) -> None:
    """Nothing is wider than the window, and all that can be used has a name."""
    with Visit(browser, address, viewport=viewport) as visit:
        page = visit.page
        visit.choose(files)
        page.locator("#list button.ok").first.click()
        page.keyboard.press("h")
        page.wait_for_selector("#overlay:not([hidden])")
        width = page.evaluate("document.documentElement.scrollWidth")
        assert width <= viewport["width"]
        nameless = page.evaluate(
            """() => [...document.querySelectorAll(
                 "button, input, select, progress, img:not([hidden]), canvas")]
               .filter(node => !(node.textContent.trim() || node.labels?.length ||
                 node.getAttribute("aria-label") || node.alt))
               .map(node => node.outerHTML)"""
        )
        assert nameless == []
        assert page.locator("[role=status]").count() == 1


@in_browser
def test_a_server_that_is_gone(browser: Any, address: str, files: list[str]) -> None:
    """The page says so and keeps what it has."""
    with Visit(browser, address) as visit:
        visit.context.set_offline(True)
        visit.page.set_input_files("#files", files[:1])
        api.expect(visit.page.locator("#status")).to_have_text("Not answered")
        api.expect(visit.page.locator("#reason")).to_contain_text(
            "Is it still running?"
        )
