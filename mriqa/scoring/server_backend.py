"""The server backend: any OpenAI-compatible chat server (`vllm serve MODEL`) asked about pictures over HTTP.

A bounded number of requests is under way at a time. What may pass by waiting (a busy server, a broken connection, a
time limit) is tried again with growing pauses; a server that stays away is a BackendError. A picture that the server
refuses (HTTP 400, 413, 422) costs only that picture its score, unless a plain grey one is refused as well: then it is
our way of asking. Pictures travel as PNG, so that the model sees every pixel.
"""

from __future__ import annotations

import base64
import io
import os
import random
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from mriqa.answers import AnswerFormat
from mriqa.scoring.backend import Generation, ModelSource, Wanted
from mriqa.scoring.reading import BackendError, Reading, first_line

if TYPE_CHECKING:
    import httpx
    from PIL import Image

DEFAULT_URL = "http://127.0.0.1:8000/v1"
PASSING = {408, 409, 425, 429, 500, 502, 503, 504, 529}
REFUSED = {400, 413, 422}
LONGEST_PAUSE = 30.0  # seconds
CONNECT_TIMEOUT = 10.0


@dataclass
class ServerBackend:
    """A server and what it is asked for.

    Args:
        model: the name under which the server serves the model.
        generation: what to ask for. Where `structured`, vLLM's extra fields (the grammar, and the model's plain
            distribution in place of its saved decoding habits) go along; other servers may refuse them.
        url: the address up to and with `/v1`.
        api_key: sent as bearer token. Default: the environment's OPENAI_API_KEY, if it is set.
        concurrency: requests under way at a time.
        timeout: seconds for one request.
        retries: how often a request is tried again.
        pause: seconds before the first of these; each further pause is twice as long, up to 30 s, and random by ±50 %.
    """

    model: str
    generation: Generation
    url: str = DEFAULT_URL
    api_key: str | None = field(default=None, repr=False)
    concurrency: int = 16
    timeout: float = 120.0
    retries: int = 6
    pause: float = 0.5

    def __post_init__(self) -> None:
        if not self.url.startswith(("http://", "https://")):
            raise BackendError(f"The server's address must begin with http:// or https://, not be {self.url!r}.")
        if self.concurrency < 1:
            raise ValueError(f"concurrency must be at least 1, not {self.concurrency}.")

    @property
    def readout_name(self) -> str:
        return self.generation.readout_name

    def read(self, pictures: Sequence[Image.Image], seed: int) -> list[Reading | str]:
        """One reading per picture, `concurrency` of them asked for at a time; see `mriqa.scoring.backend.Backend`."""
        with ThreadPoolExecutor(self.concurrency, thread_name_prefix="mriqa-server") as pool:
            asked = [pool.submit(self._read_one, picture, seed + number) for number, picture in enumerate(pictures)]
            try:
                return [each.result() for each in asked]
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise

    def _read_one(self, picture: Image.Image, seed: int) -> Reading | str:
        answer = self._post(self._request(picture, seed))
        if isinstance(answer, str):
            if self._refuses_any_picture:
                raise BackendError(f"{answer} So it does with any; if it is not vLLM's, use --no-structured.")
            return answer
        try:
            texts = [choice["message"]["content"] or "" for choice in answer["choices"]]
        except (KeyError, TypeError) as error:
            raise BackendError(f"{self.url} does not answer as a chat server does ({first_line(error)}).") from error
        return self.generation.reading(texts)

    def _request(self, picture: Image.Image, seed: int) -> dict[str, Any]:
        asked: dict[str, Any] = {
            "model": self.model,
            "messages": chat(self.generation.answer_format, picture),
            "n": self.generation.samples,
            "temperature": self.generation.temperature,
            "top_p": 1.0,
            "max_tokens": self.generation.max_new_tokens,
        }
        if self.generation.temperature > 0:
            asked["seed"] = seed
        if self.generation.structured:
            asked["structured_outputs"] = {"regex": self.generation.grammar}
            asked |= {"top_k": 0, "repetition_penalty": 1.0}
        return asked

    def _post(self, request: dict[str, Any]) -> dict[str, Any] | str:
        """The server's answer, or a sentence where it refuses this request. Raises BackendError."""
        import httpx

        for attempt in range(self.retries + 1):
            asked_to_wait = 0.0
            try:
                response = self._client.post("chat/completions", json=request)
            except (httpx.TransportError, httpx.DecodingError) as error:
                reason = f"{type(error).__name__}: {first_line(error)}"
            else:
                if response.status_code == 200:
                    return self._decoded(response)
                reason = f"HTTP {response.status_code}: {_said(response)}"
                if response.status_code in REFUSED:
                    return f"The server refuses this image ({reason})."
                if response.status_code not in PASSING:
                    raise BackendError(f"The server at {self.url} does not take our requests ({reason}).")
                asked_to_wait = _retry_after(response)
            if attempt < self.retries:
                backoff = min(self.pause * 2**attempt, LONGEST_PAUSE) * random.uniform(0.5, 1.5)
                time.sleep(max(backoff, asked_to_wait))
        raise BackendError(f"The server at {self.url} gave no answer in {self.retries + 1} attempts ({reason}).")

    def _decoded(self, response: httpx.Response) -> dict[str, Any]:
        try:
            return response.json()
        except ValueError as error:
            raise BackendError(f"{self.url} does not answer in JSON; is it the address up to /v1?") from error

    @cached_property
    def _refuses_any_picture(self) -> bool:
        from PIL import Image

        return isinstance(self._post(self._request(Image.new("RGB", (128, 128), "grey"), seed=0)), str)

    @cached_property
    def _client(self) -> httpx.Client:
        import httpx

        key = self.api_key or os.environ.get("OPENAI_API_KEY")
        return httpx.Client(
            base_url=self.url,
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=httpx.Timeout(self.timeout, connect=min(CONNECT_TIMEOUT, self.timeout)),
            limits=httpx.Limits(max_connections=self.concurrency),
        )


def open_backend(source: ModelSource, wanted: Wanted) -> ServerBackend:
    """The server that serves `source.model`; the options are those of `ServerBackend`.

    Raises ReadoutError for "expected", BackendError for an impossible address.
    """
    return ServerBackend(source.model, Generation.of(wanted, "server"), **source.options)


def chat(answer_format: AnswerFormat, picture: Image.Image) -> list[dict[str, Any]]:
    """The messages of `mriqa.scoring.prompts.conversation` as the OpenAI API takes them, the image first."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", compress_level=1)
    address = "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
    messages: list[dict[str, Any]] = list(answer_format.messages())
    first_user = next(message for message in messages if message["role"] == "user")
    first_user["content"] = [
        {"type": "image_url", "image_url": {"url": address}},
        {"type": "text", "text": first_user["content"]},
    ]
    return messages


def _said(response: httpx.Response) -> str:
    """What the server gives as the reason, in one line of at most 200 characters."""
    try:
        body = response.json()
        message = body.get("message") or body["error"]["message"]
    except (ValueError, KeyError, TypeError, AttributeError):
        message = response.text
    return " ".join(str(message).split())[:200] or response.reason_phrase


def _retry_after(response: httpx.Response) -> float:
    """Seconds that the server asks us to wait, at most 30; 0 where it names none."""
    value = response.headers.get("retry-after", "")
    return min(float(value), LONGEST_PAUSE) if value.replace(".", "", 1).isdigit() else 0.0
