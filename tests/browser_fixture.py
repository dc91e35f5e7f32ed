"""A real browser without a window: what set-up installs on Debian, Chrome or Playwright's own on macOS.

Its helpers are imported before the plugin, hence PYTEST_DONT_REWRITE.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

PHONE, DESK = {"width": 360, "height": 740}, {"width": 1280, "height": 900}
# Every text on the page against what is painted behind it, by WCAG 2.1's formula; large text counts as all other.
CONTRASTS = """() => {
  const rgba = (text) => { const n = text.match(/[\\d.]+/g).map(Number); return [n[0], n[1], n[2], n[3] ?? 1]; };
  const over = (top, under) => [0, 1, 2].map(i => top[i] * top[3] + under[i] * (1 - top[3])).concat(1);
  const light = (c) => { const [r, g, b] = c.slice(0, 3).map(v => v / 255)
    .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const ground = (e) => { const layers = []; for (let n = e; n; n = n.parentElement)
      layers.push(rgba(getComputedStyle(n).backgroundColor));
    return layers.reverse().reduce((under, top) => over(top, under), [255, 255, 255, 1]); };
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const text = walker.currentNode.textContent.trim(), e = walker.currentNode.parentElement;
    if (!text || ["STYLE", "SCRIPT", "TITLE"].includes(e.tagName) || !e.getClientRects().length) continue;
    const style = getComputedStyle(e);
    const under = ground(e), colour = e.closest("svg") ? style.fill : style.color;
    if (!/^rgb/.test(colour)) continue;
    const [a, b] = [light(over(rgba(colour), under)), light(under)];
    found.push([Math.round(100 * (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05)) / 100, text.slice(0, 40)]);
  }
  return found;
}"""
TOO_WIDE = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


@pytest.fixture(scope="module")  # as long as it lives its event loop is the thread's, and asyncio.run fails
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        found = shutil.which("chromium")
        chrome = sys.platform == "darwin" and Path("/Applications/Google Chrome.app").exists()
        one = playwright.chromium.launch(
            executable_path=found,
            channel="chrome" if chrome and not found else None,
            args=["--no-sandbox"] if os.getuid() == 0 else [],  # Chromium refuses its sandbox to root
        )
        yield one
        one.close()


def low_contrasts(page: Page, needed: float = 4.5) -> list[tuple[float, str]]:
    """The texts with less contrast than needed; at least one text must have been measured."""
    measured = page.evaluate(CONTRASTS)
    assert measured, "no text was measured"
    return [(ratio, text) for ratio, text in measured if ratio < needed]


def too_wide_px(page: Page) -> int:
    """How far the page can be scrolled sideways."""
    return int(page.evaluate(TOO_WIDE))
