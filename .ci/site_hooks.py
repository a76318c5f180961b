"""Pages of the site that lie outside docs/: README.md as the first page, the changes, the benchmarks, a model's card.

Links between them and docs/ are turned to where the pages come to lie; a link to a file that is no page of the site
loses its address and keeps its words. On GitHub all of them work as they are written.
"""

from __future__ import annotations

import posixpath
import re
import shutil
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
PAGES = {
    "README.md": "index.md",
    "CHANGELOG.md": "CHANGELOG.md",
    "CONTRIBUTING.md": "CONTRIBUTING.md",
    "benchmarks/RESULTS.md": "benchmarks/RESULTS.md",
    "mriqa/embedded/default/README.md": "default_model.md",
}
"""Path in the repository -> path on the site. What lies in docs/ keeps its path below it."""

LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s#]+)?(#[^)\s]*)?\)")


def on_startup(command: str, dirty: bool) -> None:
    """Lay the package out as it is installed, for the API's pages: `eval/` and `reward/` lie inside it there."""
    package = ROOT / "build" / "api" / "mriqa"
    shutil.rmtree(package, ignore_errors=True)
    package.mkdir(parents=True)
    for path in [*(ROOT / "mriqa").iterdir(), ROOT / "eval", ROOT / "reward"]:
        (package / path.name).symlink_to(path)


def on_files(files: Files, config: Any) -> Files:
    for source, target in PAGES.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, target, content=re.sub(r"\A---\n.*?\n---\n", "", text, flags=re.DOTALL)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    place = page.file.src_uri
    source = next((path for path, target in PAGES.items() if target == place), f"docs/{place}")

    def turned(link: re.Match[str]) -> str:
        picture, words, address, anchor = link.groups()
        if not address or re.match(r"[a-z]+:", address):
            return link[0]
        there = posixpath.normpath(posixpath.join(posixpath.dirname(source), address))
        target = PAGES.get(there, there.removeprefix("docs/") if there.startswith("docs/") else None)
        if target is None or files.get_file_from_path(target) is None:
            if not (ROOT / there).exists():
                return link[0]  # the builder then complains
            return words
        return f"{picture}[{words}]({posixpath.relpath(target, posixpath.dirname(place) or '.')}{anchor or ''})"

    return LINK.sub(turned, markdown)
