"""The report in headless Chromium: what only a browser can tell."""

import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import report_study
from browsing import CHROMIUM, DESKTOP, PHONE, Visit
from PIL import Image
from report_pages import rows

from featcache.report.html import page as html_page

api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytestmark = [
    pytest.mark.skipif(not CHROMIUM, reason="no chromium: apt-get install chromium"),
]
A4 = {"width": 718, "height": 1047}  # without margins of 1 cm


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> tuple[report_study.Study, str]:
    """A study of 3,000 images whose thumbnails take more than 2 MB, and its report."""
    study = report_study.make(tmp_path_factory.mktemp("large"), 3000, grain=25)
    path = html_page.write(study.reports, study.board, manifest=study.manifest)
    return study, path.as_uri()


@pytest.fixture
def page(browser: Any, address: str) -> Iterator[Any]:
    with Visit(browser, address) as opened:
        yield opened


def thumbnail(page: Any) -> tuple[str, str]:
    """The path and the picture on the card of the map."""
    card = page.locator("#card")
    api.expect(card).to_be_visible()
    picture = card.locator(".thumb").evaluate(
        "node => getComputedStyle(node).backgroundImage"
    )
    return card.locator(".path").inner_text(), picture


def test_it_loads_without_a_complaint_or_a_request(browser: Any, address: str) -> None:
    """The console stays empty, and only the file itself is asked for."""
    visit = Visit(browser, address)
    with visit as page:
        page.locator("#list summary").click()
        page.locator("#colour").select_option("2")
        page.get_by_label("PCA").check()
    assert visit.complaints == []
    assert [url for url in visit.requests if not url.startswith("data:")] == [address]


def test_text_of_the_data_stays_text(page: Any) -> None:
    """What looks like a tag in a class or a path makes no element, in the list too."""
    page.locator("#list summary").click()
    pictures = page.locator("img")
    assert (
        pictures.count() == page.locator('#run-1 img[src^="data:image/webp"]').count()
    )
    assert page.locator("#list-table b").count() == 0
    assert page.locator("#audit td b").count() == 0
    assert "<img src=x onerror=alert(1)>" in page.locator("#list-table").inner_text()


def test_headings_sort_each_side_of_the_line(page: Any) -> None:
    """One click sorts up or down, aria-sort says which; trivial rows stay below."""
    assert rows(page) == ["logreg", "softmax", "majority"]
    heading = page.get_by_role("columnheader", name="head and features")
    for order, expected in (
        ("ascending", ["logreg", "softmax", "majority"]),
        ("descending", ["softmax", "logreg", "majority"]),
    ):
        heading.get_by_role("button").click()
        api.expect(heading).to_have_attribute("aria-sort", order)
        assert rows(page) == expected
    assert page.locator("#board [aria-sort]").count() == 1


def test_headings_sort_by_the_keyboard(page: Any) -> None:
    """A number sorts from the largest; Enter is a click."""
    button = page.get_by_role("button", name="log-loss")
    button.press("Enter")
    first = rows(page)
    button.press("Enter")
    assert rows(page)[:2] == first[:2][::-1]


def test_a_filter_leaves_what_matches(page: Any) -> None:
    """By a text, by a head, by both; the count is told."""
    page.locator("#filter").fill("LOG")
    assert rows(page) == ["logreg"]
    api.expect(page.locator("#count")).to_have_text("1 of 3 runs")
    page.locator("#filter").fill("")
    page.locator('[data-filter="head"]').select_option("softmax")
    assert rows(page) == ["softmax"]
    page.locator("#filter").fill("logreg")
    assert rows(page) == []


def test_a_row_opens_its_section(page: Any) -> None:
    """The link of a collapsed run leads there and opens it."""
    section = page.locator("#run-3")
    assert section.get_attribute("open") is None
    page.locator('#board a[href="#run-3"]').click()
    assert section.get_attribute("open") is not None
    api.expect(section.locator("summary")).to_be_in_viewport()


def test_pointing_at_a_mark_shows_its_image(page: Any) -> None:
    """The card has the thumbnail, the path and the class; leaving hides it."""
    page.locator("#plot").scroll_into_view_if_needed()
    page.locator("#plot path.p").nth(5).hover(force=True)
    path, picture = thumbnail(page)
    assert path.endswith(".png")
    assert picture.startswith('url("data:image/jpeg;base64,')
    assert "class: " in page.locator("#card").inner_text()
    page.mouse.move(2, 2)
    api.expect(page.locator("#card")).to_be_hidden()


def test_arrow_keys_go_from_image_to_image(page: Any) -> None:
    """Focus shows one image, each arrow another, and a live region says which."""
    page.locator("#map-tools select").focus()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "plot"
    seen = {thumbnail(page)}
    for key in ("ArrowLeft", "ArrowLeft", "ArrowDown"):
        page.keyboard.press(key)
        seen.add(thumbnail(page))
    assert len(seen) >= 3
    path = thumbnail(page)[0]
    assert page.locator("#said").inner_text().startswith(path)
    page.keyboard.press("Escape")
    api.expect(page.locator("#card")).to_be_hidden()


def test_the_legend_hides_a_class(page: Any) -> None:
    """Its button tells its state, and the marks of the class go and come."""
    shown = page.locator("#plot path.p:not(.off)")
    button = page.locator("#map-legend button").first
    everything = shown.count()
    button.click()
    less = int(button.locator(".n").inner_text())
    api.expect(shown).to_have_count(everything - less)
    assert button.get_attribute("aria-pressed") == "false"
    button.click()
    api.expect(shown).to_have_count(everything)


def test_the_list_has_every_image(page: Any) -> None:
    """It is the map for those who cannot see it, and can be filtered."""
    page.locator("#list summary").click()
    lines = page.locator("#list-table tbody tr:visible")
    api.expect(lines).to_have_count(report_study.IMAGES)
    page.locator("#list-filter").fill("image 7.png")
    api.expect(lines).to_have_count(1)


@pytest.mark.slow
def test_maps_are_shown_side_by_side(browser: Any, address: str) -> None:
    """All pictures load; on a phone too an image stands beside its maps."""
    loaded = "nodes => nodes.every(n => n.complete && n.naturalWidth > 50)"
    for view in (DESKTOP, PHONE):
        with Visit(browser, address, viewport=view) as page:
            assert page.locator("#run-1 img").evaluate_all(loaded)
            card = page.locator("#run-1 .cards:not(.means) li").first
            boxes = [one.bounding_box() for one in card.locator("img").all()]
            assert len(boxes) == 3
            assert len({round(box["y"]) for box in boxes}) == 1
            assert boxes[-1]["x"] + boxes[-1]["width"] <= view["width"]


def test_statuses_differ_without_their_colours(page: Any) -> None:
    """Each has a word and a sign of its own, and the table stays one on a phone."""
    texts = page.locator("#audit .state").all_inner_texts()
    assert set(texts) == {"! finding", "? finding", "– not applicable", "✓ passed"}
    page.set_viewport_size(PHONE)
    table = page.get_by_role("table", name="Checks of the audit")
    assert table.get_by_role("row").count() == len(texts) + 1
    assert table.get_by_role("columnheader").count() == 4


def test_further_candidates_open_by_the_keyboard(page: Any) -> None:
    """Six are shown at first; Enter on the summary shows all."""
    lines = page.locator("#audit .errors:not(.twins) li")
    shown = lines.locator("visible=true")
    assert (shown.count(), lines.count()) == (6, 24)
    page.locator("#audit summary").press("Enter")
    api.expect(shown).to_have_count(24)


@pytest.mark.parametrize("width", [360, 390, 768, 1280])
def test_nothing_is_wider_than_the_screen(
    browser: Any, address: str, width: int
) -> None:
    """With all sections open only tables scroll sideways, never the page."""
    view = {"width": width, "height": 740}
    with Visit(browser, address, viewport=view) as page:
        page.evaluate(
            "document.querySelectorAll('details').forEach(d => d.open = true)"
        )
        assert page.evaluate("document.documentElement.scrollWidth") == width


@pytest.mark.slow
def test_the_map_answers_a_finger(browser: Any, address: str) -> None:
    """On a phone a touch shows the image, and the card stays on the screen."""
    with Visit(browser, address, viewport=PHONE, has_touch=True) as page:
        page.locator("#plot").scroll_into_view_if_needed()
        page.locator("#plot path.p").nth(5).tap(force=True)
        assert thumbnail(page)[1].startswith('url("data:')
        box = page.locator("#card").bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= PHONE["width"]


@pytest.mark.slow
def test_print_shows_all_sections(page: Any) -> None:
    """On paper every section is open, and controls are gone; then all is as before."""
    page.set_viewport_size(A4)
    page.emulate_media(media="print")
    assert page.evaluate("document.documentElement.scrollWidth") == A4["width"]
    for section in page.locator("details.run, details.help:not(.list)").all():
        assert section.locator("> :not(summary)").first.is_visible()
    assert page.locator(".top, .tools, #list").locator("visible=true").count() == 0
    assert page.locator("#audit .errors li").locator("visible=false").count() == 0
    page.emulate_media(media="screen")
    page.wait_for_function("!document.querySelector('#run-3').open")
    assert len(page.pdf()) > 50_000


CONTRAST = """() => {
  const shade = (color) => {
    const canvas = document.createElement("canvas").getContext("2d");
    canvas.fillStyle = color; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const light = (rgb) => {
    const [r, g, b] = rgb.map((v) => (v /= 255) <= .04045 ? v / 12.92
      : ((v + .055) / 1.055) ** 2.4);
    return .2126 * r + .7152 * g + .0722 * b;
  };
  const ground = (node) => {
    const layers = [];
    for (let at = node; at; at = at.parentElement) {
      const [r, g, b, a] = shade(getComputedStyle(at).backgroundColor);
      layers.push([[r, g, b], a / 255]);
      if (a === 255) break;
    }
    return layers.reverse().reduce((under, [over, a]) =>
      under.map((v, i) => v * (1 - a) + over[i] * a), [255, 255, 255]);
  };
  const found = [];
  for (const node of document.querySelectorAll("main *, header *, footer *")) {
    const text = [...node.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
    if (!text || !node.checkVisibility()) continue;
    if (node.closest("svg, .hidden, .thumb")) continue;
    const style = getComputedStyle(node);
    const a = light(shade(style.color).slice(0, 3)), b = light(ground(node));
    const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
    if (ratio < 4.5) found.push(`${node.tagName} ${node.className} ${ratio}`);
  }
  return found;
}"""


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_can_be_read(browser: Any, address: str, scheme: str) -> None:
    """Every visible text has a contrast of at least 4.5 to what lies behind it."""
    with Visit(browser, address, color_scheme=scheme) as page:
        page.evaluate(
            "document.querySelectorAll('details').forEach(d => d.open = true)"
        )
        assert page.evaluate(CONTRAST) == []


def test_the_theme_can_be_switched(browser: Any, address: str) -> None:
    """The page follows the system; the button turns it round."""
    with Visit(browser, address, color_scheme="dark") as page:
        ground = "getComputedStyle(document.body).backgroundColor"
        dark = page.evaluate(ground)
        page.locator("#theme").click()
        light = page.evaluate(ground)
    sums = [sum(map(int, re.findall(r"\d+", color)[:3])) for color in (dark, light)]
    assert sums[0] < 150 < 600 < sums[1]


def test_without_a_script_the_page_is_whole(browser: Any, address: str) -> None:
    """All but the map is there, and no dead control is shown."""
    with Visit(browser, address, java_script_enabled=False) as page:
        assert rows(page) == ["logreg", "softmax", "majority"]
        assert page.locator("#map noscript").count() == 1
        assert page.locator(".tools:visible, #theme:visible, #all:visible").count() == 0
        page.locator("#run-3 summary").click()
        assert page.locator("#run-3 .confusion").first.is_visible()


def test_the_file_is_a_plain_file(address: str) -> None:
    """What is tested above is one file, opened without a server."""
    assert address.startswith("file://")
    assert Path(address.removeprefix("file://")).is_file()


def _grey(picture: Image.Image) -> np.ndarray:
    """A picture in 4x4 greys, which survive JPEG and scaling."""
    return np.asarray(picture.convert("L").resize((4, 4), Image.Resampling.BOX), float)


@pytest.mark.slow
@pytest.mark.parametrize("width", [1280, 390])
def test_thousands_of_thumbnails_are_seen(
    browser: Any, large: tuple[report_study.Study, str], width: int
) -> None:
    """Of 3,000 images in more than 2 MB of JPEG each thumbnail shows its file."""
    study, address = large
    view = {"width": width, "height": 900}
    with Visit(browser, address, viewport=view) as page:
        sheets = page.evaluate("document.querySelector('style').textContent.length")
        assert sheets > 2.2 * 2**20
        page.locator("#list summary").click()
        errors = page.locator("#run-1 .errors li").all()[:3]
        lines = page.locator("#list-table tbody tr")
        lines.nth(1499).wait_for(state="attached")
        assert lines.count() == 1500
        for line in errors + [lines.nth(i) for i in range(0, 1500, 75)]:
            thumb = line.locator(".thumb")
            thumb.scroll_into_view_if_needed()
            name = line.locator(".path").first.inner_text()
            with (
                Image.open(io.BytesIO(thumb.screenshot())) as seen,
                Image.open(study.manifest.root / name) as file,
            ):
                middle = seen.crop((8, 8, seen.width - 8, seen.height - 8))
                edge = 96 * 8 // seen.width
                whole = file.crop((edge, edge, 96 - edge, 96 - edge))
                assert np.abs(_grey(middle) - _grey(whole)).mean() < 6, name
