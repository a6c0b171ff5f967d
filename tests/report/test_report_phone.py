"""The report's tables on a phone, in headless Chromium."""

from typing import Any

import pytest
from browsing import CHROMIUM, PHONE, Visit
from report_pages import rows
from toys import slow_but

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytestmark = [
    pytest.mark.skipif(not CHROMIUM, reason="no chromium: apt-get install chromium"),
]

BROKEN = """() => {
  const found = [];
  for (const table of document.querySelectorAll("table")) {
    const walker = document.createTreeWalker(table, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
      const node = walker.currentNode, range = document.createRange();
      if (node.parentElement.closest(".path, code")) continue;
      for (const word of node.data.matchAll(/\\b[A-Za-z]{2,20}\\b/g)) {
        range.setStart(node, word.index);
        range.setEnd(node, word.index + word[0].length);
        if (new Set([...range.getClientRects()].map((r) => r.top)).size > 1)
          found.push(word[0]);
      }
    }
  }
  return found;
}"""
CUT = """() => [...document.querySelectorAll(".stack tr > *")]
  .filter((n) => n.checkVisibility() && !n.closest("thead"))
  .filter((n) => n.scrollWidth > n.clientWidth + 1
    || n.getBoundingClientRect().right > innerWidth)
  .map((n) => n.textContent)"""


@pytest.mark.parametrize("width", slow_but([360, 390], 390))
def test_tables_on_a_phone_can_be_read(browser: Any, address: str, width: int) -> None:
    """No word is broken inside, rows of wide tables are whole, headings still sort."""
    view = {"width": width, "height": 740}
    with Visit(browser, address, viewport=view) as page:
        page.evaluate(
            "document.querySelectorAll('details').forEach(d => d.open = true)"
        )
        assert page.evaluate(BROKEN) == []
        assert page.evaluate(CUT) == []
        page.get_by_role("button", name="head and features").click()
        page.get_by_role("button", name="head and features").click()
        assert rows(page) == ["softmax", "logreg", "majority"]
        page.locator("#filter").fill("logreg")
        assert rows(page) == ["logreg"]


@pytest.mark.slow
def test_the_first_column_stays_when_a_table_scrolls(
    browser: Any, address: str
) -> None:
    """A reader of the last column sees which row it is."""
    with Visit(browser, address, viewport=PHONE) as page:
        box = page.locator("#data .scroll", has_text="The split").first
        width = "node => node.style.width = '9rem'"
        box.evaluate(width)
        name = box.locator("tbody th").first
        before = name.bounding_box()
        box.evaluate("node => { node.scrollLeft = node.scrollWidth; }")
        assert box.evaluate("node => node.scrollLeft") > 0
        assert name.bounding_box() == before
