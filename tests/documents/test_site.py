"""`make docs` and `make release-check`: what they find fault with. The site is built where mkdocs is installed."""

from __future__ import annotations

import importlib.util
import tarfile
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / ".ci" / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_links_that_lead_nowhere_and_what_comes_from_elsewhere_are_found(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text(
        '<h2 id="there"></h2><a href="b.html#part">b</a><a href="#there">a</a><a href="https://example.org">c</a>'
    )
    (tmp_path / "b.html").write_text('<h2 id="part"></h2><img src="data:,x"><link rel="stylesheet" href="style.css">')
    (tmp_path / "style.css").write_text("a { background: url(picture.png) }")
    faults = script("build_docs").faults
    assert faults(tmp_path) == []
    (tmp_path / "a.html").write_text('<a href="c.html">c</a><a href="b.html#gone">b</a><script src="https://x/y.js">')
    (tmp_path / "style.css").write_text("@font-face { src: url('https://fonts.example.org/f') }")
    assert sorted(faults(tmp_path)) == [
        "a.html fetches https://x/y.js",
        "a.html links to b.html#gone, where there is no such heading",
        "a.html links to c.html, which isn't there",
        "style.css fetches https://fonts.example.org/f",
    ]


def test_the_site_is_built_without_a_warning(tmp_path: Path, capfd) -> None:
    pytest.importorskip("mkdocs", reason="the site needs pip install 'mriqa[docs]'")
    pytest.importorskip("mkdocstrings")
    assert script("build_docs").main(tmp_path / "site") == 0
    said = capfd.readouterr()
    assert said.err == "" and "0 faults" in said.out
    assert len(list((tmp_path / "site").glob("api/*.html"))) == 7


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ({}, None),
        ({"mriqa/font.ttf": b"x"}, "nothing says under which licence mriqa/font.ttf is shipped"),
        ({"mriqa/table.csv": b"0" * 9 * 2**20}, "mriqa/table.csv has 9.0 MiB"),
    ],
)
def test_what_is_shipped_has_a_licence_and_a_size(tmp_path: Path, more: dict[str, bytes], sentence: str | None) -> None:
    release = script("release_check")
    files = {"mriqa/__init__.py": b"", "mriqa/embedded/default/model.safetensors": b"x", **more}
    with zipfile.ZipFile(tmp_path / "m.whl", "w", zipfile.ZIP_DEFLATED) as wheel:
        for name, content in {**files, "mriqa-1.dist-info/licenses/LICENSE": b""}.items():
            wheel.writestr(name, content)
    with tarfile.open(tmp_path / "m.tar.gz", "w:gz") as sdist:
        for name in ("LICENSE", "README.md", "pyproject.toml"):
            sdist.add(ROOT / name, f"m-1/{name}")
        sdist.add(ROOT / "LICENSE", "m-1/PKG-INFO")
    if sentence is None:
        assert "1 files, 0.0 MiB Apache-2.0 (LICENSE)" in release.contents(tmp_path / "m.whl", tmp_path / "m.tar.gz")
    else:
        with pytest.raises(release.CheckError, match=sentence):
            release.contents(tmp_path / "m.whl", tmp_path / "m.tar.gz")


def test_a_python_that_is_not_here_is_said_to_be_missing() -> None:
    release = script("release_check")
    with pytest.raises(release.CheckError, match=r"there is no python3.99 on this machine"):
        release.find_python("python3.99")
