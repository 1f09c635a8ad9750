"""The page in a real browser: no page-wide scrolling, on a telephone or a desk, and everything on paper."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from mmcli.evaluation.result import Result

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no chromium here")
MEASURE = """<script>addEventListener("load", () => {
  for (const d of document.querySelectorAll("details")) d.open = true;
  const wide = [...document.querySelectorAll("body *")].filter(e => !e.closest(".wide") &&
    e.getBoundingClientRect().right > innerWidth + 1).map(e => e.tagName);
  document.title = [innerWidth, document.documentElement.scrollWidth, wide.join("+")].join("|");
});</script></body>"""


def browse(folder: Path, *arguments: str) -> str:
    assert BROWSER is not None
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'profile'}"]
    return subprocess.run(
        [*command, *arguments], capture_output=True, text=True, timeout=60, check=True, cwd=folder
    ).stdout  # fmt: skip


@pytest.mark.parametrize("width", [500, 1280])
def test_the_page_never_scrolls_sideways(
    large: Result, page_of: Callable[..., Path], tmp_path: Path, width: int
) -> None:
    """500 is the narrowest window that a headless chromium has; in it an iframe is as wide as a telephone."""
    page = page_of(large)
    html = page.read_text(encoding="utf-8").replace("</body>", MEASURE)
    if width == 500:
        inner = tmp_path / "inner.html"
        inner.write_text(html.replace("document.title =", "parent.document.title ="), encoding="utf-8")
        html = f'<title></title><iframe src="{inner.name}" style="width:360px;height:800px;border:0"></iframe>'
    page.write_text(html, encoding="utf-8")
    dom = browse(tmp_path, f"--window-size={width},900", "--allow-file-access-from-files", "--dump-dom", page.as_uri())
    found = re.search(r"<title>(\d+)\|(\d+)\|(.*?)</title>", dom)
    assert found, dom[:300]
    assert int(found[2]) <= int(found[1])
    assert found[3] == ""
    assert int(found[1]) <= (360 if width == 500 else 1280)
