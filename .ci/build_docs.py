"""`make docs`: the site, without a warning, with every link leading somewhere and nothing asked of another machine."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

ROOT = Path(__file__).resolve().parents[1]
FETCHED = {"script": "src", "img": "src", "link": "href", "iframe": "src", "source": "src", "video": "src"}
"""What a browser fetches by itself, and the attribute that says from where."""


class Page(HTMLParser):
    """Where a page's links lead, what it fetches, and its anchors."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.fetched: list[str] = []
        self.anchors: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attributes}
        self.anchors |= {found[name] for name in ("id", "name") if name in found}
        if tag == "a" and "href" in found:
            self.links.append(found["href"])
        elif tag in FETCHED and FETCHED[tag] in found and found.get("rel") not in ("canonical", "next", "prev"):
            self.fetched.append(found[FETCHED[tag]])


def faults(site: Path) -> list[str]:
    """A sentence for each link that leads nowhere and each thing that would be fetched from elsewhere."""
    pages = {path: Page(path) for path in sorted(site.rglob("*.html")) if path.name != "404.html"}
    found = []
    for path, page in pages.items():
        name = path.relative_to(site)
        for address in page.fetched + page.links:
            parts = urlsplit(address)
            if parts.scheme or parts.netloc:
                if address in page.fetched and parts.scheme != "data":
                    found.append(f"{name} fetches {address}")
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            if not target.is_file():
                found.append(f"{name} links to {address}, which isn't there")
            elif (
                parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].anchors | {"__top"}
            ):
                found.append(f"{name} links to {address}, where there is no such heading")
    for path in sorted(site.rglob("*.css")):
        for address in re.findall(r"url\([\"']?(https?:[^)\"']+)", path.read_text(encoding="utf-8")):
            found.append(f"{path.relative_to(site)} fetches {address}")
    return found


def main(site: Path = ROOT / "site") -> int:
    # The theme's advertisement of its successor is no warning about our pages.
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--clean", "--quiet", "--site-dir", str(site)]
    built = subprocess.run(command, cwd=ROOT, env=environment)
    if built.returncode:
        return built.returncode
    found = faults(site)
    for fault in found:
        print(fault, file=sys.stderr)
    print(f"{len(list(site.rglob('*.html')))} pages in {site}; {len(found)} faults.")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
