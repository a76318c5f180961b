"""What the page's server lets nobody do: read files or URLs, send too much, come in without the password."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner
from upload_files import grey

gradio = pytest.importorskip("gradio", reason="the page needs pip install 'mriqa[page]'")

TOKEN = "0123456789abcdef"


@pytest.fixture
def client(scorer, tmp_path, monkeypatch):
    """A function that opens a client of the page; `token` locks the page."""
    from fastapi.testclient import TestClient

    from mriqa.page.server import make_app
    from mriqa.serving.limits import Limits

    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "uploads"))

    def start(token: str | None = None) -> TestClient:
        return TestClient(make_app(scorer, Limits(file_bytes=2**20, request_bytes=2**21, held_bytes=2**22), token))

    return start


def upload(client, *files: bytes):
    return client.post("/gradio_api/upload", files=[("files", ("a.png", data)) for data in files])


def happens(client, kind: str, data: list) -> dict:
    """What comes of the first event of that kind when a client sends `data` with it."""
    config = client.get("/config").json()
    event = next(one["id"] for one in config["dependencies"] if any(name == kind for _, name in one["targets"]))
    client.post("/gradio_api/queue/join", json={"data": data, "fn_index": event, "session_hash": "me"})
    lines = client.get("/gradio_api/queue/data?session_hash=me").text.splitlines()
    return json.loads(next(line for line in lines if "process_completed" in line).removeprefix("data: "))


def file(path: str) -> dict:
    return {"path": path, "orig_name": "a.png", "meta": {"_type": "gradio.FileData"}}


def test_only_what_was_uploaded_is_read(client, tmp_path):
    """No other file of this machine and no URL, not even in the place of a name, by which Gradio would fetch them."""
    secret = tmp_path / "secret.png"
    secret.write_bytes(grey(102))
    with client() as page:
        (path,) = upload(page, grey(102)).json()
        scored = happens(page, "change", [[file(path)], "Best first", "Blur", 0.4, False])
        assert scored["success"] and "2.60" in json.dumps(scored["output"])
        outside = [str(secret), f"{path}/../../../secret.png", "http://127.0.0.1:9/a.png", "https://example.org/a.png"]
        for source in outside:
            for data in ([[file(source)], "Best first", "Blur", 0.4, False], [[], file(source), "Blur", 0.4, False]):
                refused = happens(page, "change", data)
                assert not refused["success"] and "Only files that were dropped" in refused["output"]["error"]
        assert page.get(f"/gradio_api/file={secret}").status_code == 403
        Path(path).unlink()
        gone = happens(page, "change", [[file(path)], "Best first", "Blur", 0.4, False])
        assert "drop it again" in gone["output"]["error"]


def test_too_much_is_refused(client):
    with client() as page:
        assert upload(page, bytes(2**21)).status_code == 413
        assert upload(page, *[bytes(2**20 - 9)] * 3).status_code == 413
        assert page.post("/gradio_api/queue/join", content=bytes(2**21 + 1)).status_code == 413
        assert upload(page, grey(1)).status_code == 200


def test_nothing_without_the_password(client):
    with client(TOKEN) as page:
        assert upload(page, grey(1)).status_code == 401
        assert "dependencies" not in page.get("/config").text
        assert page.post("/login", data={"username": "x", "password": "wrong" * 4}).status_code == 400
        assert page.post("/login", data={"username": "x", "password": TOKEN}).status_code == 200
        assert upload(page, grey(1)).status_code == 200


@pytest.mark.parametrize(
    "options, reason", [(["--host", "0.0.0.0"], "needs a token"), ([], "pip install 'mriqa[page]'")]
)
def test_the_command_says_what_is_missing(monkeypatch, options, reason):
    from mriqa.cli import app

    monkeypatch.delenv("MRIQA_TOKEN", raising=False)
    monkeypatch.setattr("os.environ", dict(os.environ))
    if not options:
        for name in [name for name in sys.modules if name.startswith("mriqa.page")]:
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.setitem(sys.modules, "gradio", None)
    result = CliRunner().invoke(app, ["demo", "-m", "no such model", *options])
    assert result.exit_code == 2 and reason in result.stderr and result.stderr.count("\n") == 1


def test_uploads_are_gone_when_the_command_ends(tmp_path):
    from mriqa.embedded import build_tiny_qwen3_vl

    model, place = build_tiny_qwen3_vl(tmp_path / "model"), tmp_path / "temporary"
    place.mkdir()
    command = [sys.executable, "-m", "mriqa", "demo", "-m", str(model), "--device", "cpu", "--port", "0"]
    environment = {**os.environ, "TMPDIR": str(place)}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as server:
        lines = iter(server.stderr.readline, "")
        url = next(match[1] for line in lines if (match := re.search(r"running on (http://127\.0\.0\.1:\d+)", line)))
        with httpx.Client(base_url=url) as client:
            (path,) = upload(client, grey(102)).json()
            assert Path(path).read_bytes() == grey(102) and place in Path(path).parents
            done = happens(client, "change", [[file(path)], "Best first", "Blur", 0.4, False])
        server.send_signal(signal.SIGTERM)
        server.stderr.read()
    assert done["success"] and not list(place.glob("mriqa-*"))
