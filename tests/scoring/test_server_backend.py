"""Scoring by an OpenAI-compatible server: a stand-in on loopback that answers, fails and stalls as real ones do."""

from __future__ import annotations

import base64
import json
import math
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from numbered_pictures import encoded, score_of

import mriqa
from mriqa.answers import load_format
from mriqa.images import load_image
from mriqa.scoring.backend import Generation
from mriqa.scoring.reading import BackendError, ReadoutError
from mriqa.scoring.server_backend import ServerBackend

FORMAT = load_format("non_thinking")


def number_of(image) -> int:
    red, green, _ = image.getpixel((0, 0))
    return red << 8 | green


class StandIn(ThreadingHTTPServer):
    """Answers with `answer(image, request)`; `trouble(number, attempt)` may name a status, "hang" or "cut" before."""

    daemon_threads = True

    def __init__(self, answer=None, trouble=lambda number, attempt: None) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answer = answer or (lambda image, request: [f"<answer>{score_of(number_of(image)):.2f}</answer>"])
        self.trouble, self.attempts = trouble, Counter()
        self.lock, self.under_way, self.most_under_way = threading.Lock(), 0, 0
        self.closing = threading.Event()
        self.requests: list[dict] = []
        self.keys: set[str] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    def __enter__(self):
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_) -> None:
        self.closing.set()
        self.shutdown()
        self.server_close()

    def handle_error(self, *_) -> None:
        """Clients that hang up are part of the tests."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        server: StandIn = self.server
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with server.lock:
            server.under_way += 1
            server.most_under_way = max(server.most_under_way, server.under_way)
        address = request["messages"][-1]["content"][0]["image_url"]["url"]
        image = load_image(base64.b64decode(address.removeprefix("data:image/png;base64,")))
        with server.lock:
            attempt = server.attempts[number_of(image)]
            server.attempts[number_of(image)] += 1
            server.requests.append(request)
            server.keys.add(self.headers.get("Authorization", ""))
        trouble = server.trouble(number_of(image), attempt)
        if trouble == "hang":
            server.closing.wait(20)
        with server.lock:
            server.under_way -= 1
        if trouble in ("cut", "hang"):
            self.close_connection = True
        elif trouble is not None:
            self.reply(trouble, {"error": {"message": "not\nnow"}})
        else:
            texts = server.answer(image, request)
            self.reply(200, {"choices": [{"message": {"content": text}} for text in texts]})

    def reply(self, status: int, body: dict) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        if status == 429:
            self.send_header("Retry-After", "0.02")
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_) -> None:
        """Silence."""


def scorer(server: StandIn, samples: int = 1, temperature: float = 0.0, structured: bool = True, **options):
    generation = Generation(FORMAT, samples, temperature, 32, structured)
    options = {"concurrency": 4, "pause": 0.01, "timeout": 10.0, **options}
    return mriqa.Scorer(None, None, batch_size=16, backend=ServerBackend("tiny", generation, server.url, **options))


def test_trouble_that_passes_costs_no_score_and_no_image_is_mixed_up():
    troubles = {0: [429, 429], 1: [500], 2: ["cut", 503], 3: ["hang"], 4: [502, 504, 408], 9: [429]}

    def trouble(number, attempt):
        planned = troubles.get(number, [])
        return planned[attempt] if attempt < len(planned) else None

    with StandIn(trouble=trouble) as server:
        scores = scorer(server, timeout=1.5, api_key="secret").score([encoded(number) for number in range(20)])
    assert [score.score for score in scores] == pytest.approx([score_of(number) for number in range(20)], abs=0.005)
    assert all(score.error is None and score.n_parsed == 1 for score in scores)
    assert server.attempts[4] >= 4
    assert 2 <= server.most_under_way <= 5  # one that hangs there may have been given up here
    assert server.keys == {"Bearer secret"}


def test_a_refused_image_costs_its_own_score_only():
    with StandIn(trouble=lambda number, attempt: 400 if number == 3 else None) as server:
        scores = scorer(server).score([encoded(number) for number in range(6)])
    assert [math.isnan(score.score) for score in scores] == [False, False, False, True, False, False]
    assert "refuses this image (HTTP 400: not now)" in scores[3].error


@pytest.mark.parametrize(
    ("trouble", "sentence"),
    [(400, "--no-structured"), (401, "does not take"), (404, "does not take"), (503, "no answer in 3 attempts")],
)
def test_a_server_that_never_answers_stops_the_run(trouble, sentence):
    with StandIn(trouble=lambda number, attempt: trouble) as server, pytest.raises(BackendError, match=sentence):
        scorer(server, retries=2).score([encoded(1), encoded(2)])


def test_a_server_that_is_not_there_stops_the_run():
    with StandIn() as server:
        gone = scorer(server, retries=1)
    with pytest.raises(BackendError, match="no answer in 2 attempts"):
        gone.score([encoded(1)])


def test_samples_are_averaged_and_what_does_not_parse_is_counted():
    texts = ["<answer>2.00</answer>", "a good picture", "<answer>4.00</answer>", "<answer>9.00</answer>"]
    with StandIn(answer=lambda image, request: texts) as server:
        (score,) = scorer(server, samples=4, temperature=1.0, structured=False).score([encoded(1)])
    (request,) = server.requests
    assert (request["n"], request["temperature"], "structured_outputs" in request) == (4, 1.0, False)
    assert (score.score, score.n_parsed, score.texts) == (3.0, 2, tuple(texts))
    assert score.std == pytest.approx(math.sqrt(2))


def test_the_server_gets_what_the_model_gets_here(taught_model, pictures):
    """The stand-in asks the same model by transformers: equal scores mean that prompt and pixels arrive whole."""
    here = mriqa.Scorer(*taught_model, readout="greedy", batch_size=2)

    def answer(image, request):
        system, user = request["messages"]
        assert [{"role": "system", "content": system["content"]}, user["content"][1]] == [
            FORMAT.messages()[0],
            {"type": "text", "text": FORMAT.messages()[1]["content"]},
        ]
        with lock:
            return [mriqa.Scorer(*taught_model, readout="greedy").score([image])[0].text]

    lock = threading.Lock()
    with StandIn(answer=answer) as server:
        there = scorer(server).score(pictures)
    np.testing.assert_allclose([s.score for s in there], [s.score for s in here.score(pictures)], atol=1e-6)


def test_expected_is_not_to_be_had_from_a_server():
    with pytest.raises(ReadoutError, match="--backend transformers"):
        mriqa.Scorer.from_pretrained("tiny", "expected", backend="server")
