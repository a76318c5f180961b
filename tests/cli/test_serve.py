"""`mriqa serve` as users start and stop it."""

from __future__ import annotations

import io
import re
import signal
import subprocess
import sys
import threading

import httpx
import pytest
from PIL import Image
from typer.testing import CliRunner

from mriqa.cli import app


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    from mriqa.embedded import build_tiny_qwen3_vl

    return str(build_tiny_qwen3_vl(tmp_path_factory.mktemp("tiny") / "model"))


@pytest.mark.parametrize(
    "token, options, reason",
    [
        (None, ["--host", "0.0.0.0"], "needs a token"),
        (None, ["--host", "::"], "needs a token"),
        ("short", ["--host", "0.0.0.0"], "at least 16 characters"),
        ("has spaces in it, and many", [], "no spaces"),
        (None, ["--token-file", "absent.txt"], "cannot be read"),
        (None, ["--max-held-mib", "1"], "held_bytes"),
    ],
)
def test_what_would_be_unsafe_does_not_start(monkeypatch, token, options, reason):
    monkeypatch.delenv("MRIQA_TOKEN", raising=False)
    if token:
        monkeypatch.setenv("MRIQA_TOKEN", token)
    result = CliRunner().invoke(app, ["serve", "-m", "no such model", *options])
    assert result.exit_code == 2 and reason in result.stderr and result.stderr.count("\n") == 1


@pytest.mark.parametrize("command, package", [("serve", "fastapi"), ("demo", "gradio")])
def test_connections_are_kept_open_for_longer_than_a_client_is_told_to_wait(model, monkeypatch, command, package):
    pytest.importorskip(package)
    settings = []
    monkeypatch.setattr("uvicorn.run", lambda app, **options: settings.append(options))
    result = CliRunner().invoke(app, [command, "-m", model, "--device", "cpu", "--port", "0"])
    assert result.exit_code == 0, result.output
    (options,) = settings
    assert options["timeout_keep_alive"] > 60  # the longest Retry-After of `mriqa.serving.gate`
    assert (options["host"], options["port"], options["access_log"]) == ("127.0.0.1", 0, False)


def test_sigterm_lets_requests_under_way_finish(model, tmp_path):
    (tmp_path / "token.txt").write_text("0123456789abcdef\n")
    command = [sys.executable, "-m", "mriqa", "serve", "-m", model, "--device", "cpu", "--port", "0"]
    command += ["--token-file", str(tmp_path / "token.txt")]
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64), "red").save(buffer, "PNG")
    files = [("images", (f"{number}.png", buffer.getvalue())) for number in range(16)]
    answers = []
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        lines = iter(server.stderr.readline, "")
        url = next(match[1] for line in lines if (match := re.search(r"running on (http://127\.0\.0\.1:\d+)", line)))
        with httpx.Client(base_url=url, timeout=60, headers={"authorization": "Bearer 0123456789abcdef"}) as client:
            sender = threading.Thread(target=lambda: answers.append(client.post("/score", files=files)))
            sender.start()
            while httpx.get(f"{url}/health").json()["requests"] == 0 and sender.is_alive():
                pass
            server.send_signal(signal.SIGTERM)
            sender.join()
        server.stderr.read()
    assert server.returncode in (0, -signal.SIGTERM)
    assert answers[0].status_code == 200 and len(answers[0].json()["images"]) == 16
