"""The service over ASGI: what it answers, whom it lets in, and what it does when there is too much."""

from __future__ import annotations

import asyncio
import threading
from contextlib import asynccontextmanager
from itertools import pairwise

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from mriqa.scoring.reading import BackendError
from mriqa.serving.app import make_app
from mriqa.serving.limits import Limits


@asynccontextmanager
async def client_of(scorer, limits=None, token=None):
    app = make_app(scorer, limits, token)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://here") as client,
    ):
        yield client


def named(*contents: bytes) -> list:
    return [("images", (f"{number}.png", content)) for number, content in enumerate(contents)]


class Held:
    """A scorer whose model is busy until released; it writes down its batches."""

    def __init__(self, scorer) -> None:
        self.inner, self.batch_size, self.readout_name = scorer, scorer.batch_size, scorer.readout_name
        self.released, self.batches = threading.Event(), []

    def score(self, pictures):
        assert self.released.wait(10)
        self.batches.append(len(pictures))
        return self.inner.score(pictures)


def test_batches_across_requests_score_as_one_by_one(scorer, files):
    """The first image occupies the model; the others come meanwhile and fill batches."""
    alone = [scorer.score([file])[0] for file in files]
    assert min(abs(a.score - b.score) for a, b in pairwise(alone)) > 1e-3  # a mix-up would show

    async def run():
        held = Held(scorer)
        async with client_of(held) as client:
            tasks = [asyncio.create_task(client.post("/score", files=named(file))) for file in files[:4]]
            tasks.append(asyncio.create_task(client.post("/score", files=named(*files[4:]))))
            while (await client.get("/health")).json()["requests"] < 5:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.2)  # decoding
            held.released.set()
            return held.batches, [response.json() for response in await asyncio.gather(*tasks)]

    batches, answers = asyncio.run(run())
    assert sum(batches) == len(files) and max(batches) > 1
    rows = [row for answer in answers for row in answer["images"]]
    assert [row["name"] for row in rows] == ["0.png"] * 5 + ["1.png"]
    for row, score in zip(rows, alone, strict=True):
        assert row["score"] == pytest.approx(score.score, abs=1e-4) and row["error"] is None
        assert row["std"] == pytest.approx(score.std, abs=1e-4)


def test_the_bare_address_says_what_is_where(scorer):
    async def run():
        async with client_of(scorer) as client:
            told = (await client.get("/")).json()
            known = (await client.get("/openapi.json")).json()["paths"]
            return told, known

    told, known = asyncio.run(run())
    assert {"POST /score", "GET /health", "GET /metrics", "GET /docs"} <= set(told)
    assert {"/score", "/health", "/metrics"} <= set(known)


def test_a_bad_image_spoils_no_other_and_alone_is_a_422(scorer, files):
    async def run():
        async with client_of(scorer) as client:
            mixed = await client.post("/score", files=named(files[0], b"", files[0][:200]))
            bad = await client.post("/score", files=named(b"<svg/>"))
            metrics = (await client.get("/metrics")).text
            return mixed, bad, metrics

    mixed, bad, metrics = asyncio.run(run())
    good, empty, cut = mixed.json()["images"]
    assert mixed.status_code == 200 and 1 <= good["score"] <= 5
    assert empty["score"] is None and "0 bytes" in empty["error"] and "truncated" in cut["error"]
    assert bad.status_code == 422 and bad.json()["detail"].startswith("0.png: ")
    values = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(metrics)
        for sample in family.samples
    }
    assert values["mriqa_requests_total", "200"] == values["mriqa_requests_total", "422"] == 1
    assert values["mriqa_images_total", "scored"] == 1 and values["mriqa_images_total", "refused"] == 3
    assert values["mriqa_batch_images_count",] == 1


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"data": {"images": "http://127.0.0.1/secret.png"}},
        {"data": {"images": "/etc/passwd"}},
        {"json": {"images": ["file:///etc/passwd"]}},
        {"files": [("other", ("a.png", b"x"))]},
        {"content": b"nonsense", "headers": {"content-type": "multipart/form-data; boundary=b"}},
        {"content": b"nonsense", "headers": {"content-type": "multipart/form-data"}},
    ],
)
def test_only_uploaded_files_are_taken(scorer, arguments):
    async def run():
        async with client_of(scorer) as client:
            return await client.post("/score", **arguments)

    response = asyncio.run(run())
    assert response.status_code in (400, 422) and isinstance(response.json()["detail"], str)


def test_limits_of_size_and_count(scorer, files):
    limits = Limits(images=2, file_bytes=60_000, request_bytes=100_000, pixels=100)

    async def chunks():
        for _ in range(30):
            yield b"x" * 10_000

    async def run():
        multipart = {"content-type": "multipart/form-data; boundary=b"}
        head = b'--b\r\nContent-Disposition: form-data; name="images"; filename="a"\r\n\r\n'

        async def endless():
            yield head
            async for chunk in chunks():
                yield chunk

        async with client_of(scorer, limits) as client:
            return [
                await client.post("/score", files=named(b"1", b"2", b"3")),
                await client.post("/score", files=named(bytes(60_001))),
                await client.post("/score", files=named(bytes(100_001))),
                await client.post("/score", content=endless(), headers=multipart),
                await client.post("/score", files=named(files[0])),
            ]

    *too_much, too_many_pixels = asyncio.run(run())
    assert [response.status_code for response in too_much] == [413] * 4
    assert all(response.json()["detail"].endswith((".", "000")) for response in too_much)
    assert too_many_pixels.status_code == 422 and "too large: 200 × 50" in too_many_pixels.json()["detail"]
    with pytest.raises(ValueError, match="held_bytes"):
        Limits(request_bytes=2**30)


@pytest.mark.parametrize("limits", [Limits(requests=2), Limits(request_bytes=30_000, held_bytes=60_000)])
def test_a_full_queue_says_429_and_loses_nothing(scorer, files, limits):
    """By the number of requests, and by the bytes they hold."""

    async def run():
        held = Held(scorer)
        async with client_of(held, limits) as client:
            let_in = [asyncio.create_task(client.post("/score", files=named(files[0]))) for _ in range(2)]
            while (await client.get("/health")).json()["requests"] < 2:
                await asyncio.sleep(0.01)
            refused = [await client.post("/score", files=named(files[0])) for _ in range(3)]
            held.released.set()
            answered = await asyncio.gather(*let_in)
            return answered, refused, await client.post("/score", files=named(files[0]))

    answered, refused, later = asyncio.run(run())
    assert [response.status_code for response in [*answered, later]] == [200] * 3
    for response in refused:
        assert response.status_code == 429 and int(response.headers["retry-after"]) >= 1
        assert "try again" in response.json()["detail"]


def test_a_slow_sender_is_given_up(scorer):
    async def run():
        async def dribble():
            for _ in range(100):
                yield b"--b"
                await asyncio.sleep(0.05)

        async with client_of(scorer, Limits(seconds=1)) as client:
            headers = {"content-type": "multipart/form-data; boundary=b"}
            slow = await client.post("/score", content=dribble(), headers=headers)
            return slow, (await client.get("/health")).json()

    slow, health = asyncio.run(run())
    assert slow.status_code in (400, 408) and health["requests"] == 0


def test_with_a_token_only_health_is_open(scorer, files):
    token = "0123456789abcdef"

    async def run():
        async with client_of(scorer, token=token) as client:
            wrong = [{}, {"authorization": token}, {"authorization": f"Bearer {token}x"}, {"authorization": "Bearer "}]
            refused = [await client.post("/score", files=named(files[0]), headers=headers) for headers in wrong]
            refused += [await client.get(path) for path in ("/metrics", "/docs", "/openapi.json")]
            right = {"authorization": f"Bearer {token}"}
            return (
                refused,
                await client.get("/health"),
                await client.post("/score", files=named(files[0]), headers=right),
                await client.get("/metrics", headers=right),
            )

    refused, health, *let_in = asyncio.run(run())
    assert {response.status_code for response in refused} == {401}
    assert all(response.headers["www-authenticate"] == "Bearer" for response in refused)
    assert health.status_code == 200 and [response.status_code for response in let_in] == [200, 200]


def test_one_image_that_breaks_the_model_fails_alone(scorer, files):
    class Fragile(Held):
        def score(self, pictures):
            if any(picture.size == (200, 50) for picture in pictures):
                raise BackendError("The engine is gone; start it again.")
            return super().score(pictures)

    async def run():
        fragile = Fragile(scorer)
        async with client_of(fragile) as client:
            tasks = [asyncio.create_task(client.post("/score", files=named(file))) for file in (files[1], *files[:3])]
            while (await client.get("/health")).json()["requests"] < 3:
                await asyncio.sleep(0.01)
            fragile.released.set()
            return await asyncio.gather(*tasks)

    first, broken, *others = asyncio.run(run())
    assert broken.status_code == 503 and broken.json()["detail"] == "The engine is gone; start it again."
    assert [response.status_code for response in (first, *others)] == [200] * 3
