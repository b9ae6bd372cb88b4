"""Takes the pictures of docs/explainer.md: the app over the house of services that the browser tests look at.

`./scripts/app-pictures [FOLDER] [--only PAGE]` writes a PNG file a page, of its first screen.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from io import BytesIO
from pathlib import Path
from typing import Final

from PIL import Image
from playwright.sync_api import sync_playwright
from tests.support.app_house import furnished
from tests.support.browser.serving_app import explainer, options_of
from tests.support.browser.viewer import Viewer, chromium, viewing

ROOT: Final = Path(__file__).parents[1]
_HEART: Final = "?model=heart%40champion&rows=heart"
PAGES: Final = {
    "runs": "runs", "compare": "compare", "lpi": f"lpi{_HEART}", "gap": f"gap{_HEART}",
    "prim": f"prim{_HEART}", "segviz": f"segviz{_HEART}", "tour": "tour",
}  # fmt: skip
"""What is pictured, and its address below the app's."""
MOST_BYTES: Final = 120_000
"""Of one picture: a checkout carries all that there ever were."""
_COLOURS: Final = (128, 64, 32, 16)


class TooLarge(ValueError):
    """A picture that no palette makes small enough."""


def small_png(screenshot: bytes) -> bytes:
    """A screenshot as a PNG file of at most `MOST_BYTES`, with the largest palette that fits."""
    image = Image.open(BytesIO(screenshot)).convert("RGB")
    for colours in _COLOURS:
        written = BytesIO()
        image.quantize(colours, dither=Image.Dither.NONE).save(written, "PNG", optimize=True)
        if written.tell() <= MOST_BYTES:
            return written.getvalue()
    raise TooLarge(f"{written.tell()} bytes with {colours} colours, at most {MOST_BYTES}: picture a shorter screen")


def first_screen(viewer: Viewer, path: str) -> bytes:
    """What a person sees first when all of a page is computed; a page with an error is no picture of the app."""
    viewer.open(path)
    viewer.answered()
    seen = viewer.see()
    if seen.exceptions or seen.errors:
        raise RuntimeError(f"the page {path or 'home'} shows errors: {seen.exceptions + seen.errors}")
    return viewer.page.screenshot()


def take(names: list[str], into: Path) -> None:
    """Start everything, and write a file a page."""
    with (
        tempfile.TemporaryDirectory() as folder,
        furnished(Path(folder) / "house") as (_, found),
        explainer(Path(folder) / "app", options_of(found, "operator")) as app,
        sync_playwright() as playwright,
        chromium(playwright) as browser,
        viewing(browser, app.address) as viewer,
    ):
        for name in names:
            data = small_png(first_screen(viewer, PAGES[name]))
            (into / f"{name}.png").write_bytes(data)
            sys.stdout.write(f"{into / name}.png  {len(data):,} bytes\n")
            sys.stdout.flush()


def main() -> int:
    """As the command line says."""
    parser = argparse.ArgumentParser(description="Take the pictures of docs/explainer.md.")
    parser.add_argument("folder", nargs="?", type=Path, default=ROOT / "docs" / "app", help="where the files go")
    parser.add_argument("--only", action="append", choices=PAGES, help="a page, instead of all; may be repeated")
    asked = parser.parse_args()
    asked.folder.mkdir(parents=True, exist_ok=True)
    take(asked.only or list(PAGES), asked.folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
