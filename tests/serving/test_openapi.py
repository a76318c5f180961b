"""schemathesis sends what the OpenAPI description allows and what it forbids: no 5xx, no answer it doesn't describe."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
import time

import pytest
import uvicorn

from mriqa.serving.app import make_app

pytest.importorskip("schemathesis", reason="schemathesis is not installed")

CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"


@pytest.fixture
def url(scorer):
    server = uvicorn.Server(uvicorn.Config(make_app(scorer), port=0, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.05)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join()


def test_no_request_breaks_the_service(url, tmp_path):
    command = [sys.executable, "-m", "schemathesis.cli", "run", f"{url}/openapi.json"]
    command += ["--checks", CHECKS, "--max-examples", "20", "--seed", "1", "--no-color"]
    run = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert run.returncode == 0, run.stdout[-4000:]
    assert re.search(r"Tested: +4\b", run.stdout), run.stdout[-4000:]
