"""The service: POST /score, GET /health, GET /metrics, and its description at /docs and /openapi.json."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal

from fastapi import FastAPI, File, HTTPException, Request, UploadFile
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, Field

from mriqa import __version__
from mriqa.scoring.reading import BackendError
from mriqa.serving.batching import Batcher
from mriqa.serving.gate import Gate, Occupancy
from mriqa.serving.limits import Limits
from mriqa.serving.prometheus import CONTENT_TYPE, Metrics
from mriqa.serving.uploads import open_upload

if TYPE_CHECKING:
    from mriqa.scoring.scorer import Score, Scorer

LONGEST_NAME = 255


class ImageScore(BaseModel):
    """One image's score."""

    name: str = Field(description="The file's name as it was sent.")
    score: float | None = Field(description="1 (bad) to 5 (excellent); null where there is none.")
    std: float | None = Field(description="Spread of the score; null where one answer is all there is.")
    error: str | None = Field(description="Why there is no score, in one sentence.")
    low: float | None = Field(None, description="Lower end of the 80 % interval; null without a calibration.")
    high: float | None = Field(None, description="Upper end of the 80 % interval; null without a calibration.")


class Answer(BaseModel):
    """A score or an error for every image, in the order they were sent."""

    images: list[ImageScore]


class Refusal(BaseModel):
    """Why a request was refused, in one sentence; where the images are to blame, what is wrong with each."""

    detail: str
    images: list[ImageScore] = []


class Health(BaseModel):
    """Whether images can be scored, and how."""

    status: Literal["ok", "stopped"]
    version: str
    readout: str
    requests: int = Field(description="Uploads under way.")


_REFUSALS = {
    400: "The body is not well-formed multipart.",
    401: "The token is missing or wrong.",
    408: "The body took too long to arrive.",
    413: "Too many bytes or too many files.",
    422: "No file was sent, or none of them is an image that can be scored.",
    429: "The queue is full. Retry-After says when to come again.",
    503: "The backend that runs the model is gone.",
}


def make_app(scorer: Scorer, limits: Limits | None = None, token: str | None = None) -> FastAPI:
    """The ASGI application that scores with `scorer`, within `limits`, for those who send `token` (None: everybody)."""
    limits = limits or Limits()
    occupancy = Occupancy()
    metrics = Metrics(occupancy)
    batcher = Batcher(scorer, partial(open_upload, max_pixels=limits.pixels), metrics.batch)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with batcher:
            yield

    app = FastAPI(title="mriqa", version=__version__, summary="Image quality from 1 to 5.", lifespan=lifespan)
    app.add_middleware(
        Gate,
        limits=limits,
        occupancy=occupancy,
        token=token,
        seconds_per_request=lambda: batcher.seconds_per_image,
        finished=metrics.request,
    )

    @app.exception_handler(RequestValidationError)
    async def say_what_to_send(_: Request, error: RequestValidationError) -> JSONResponse:
        return JSONResponse({"detail": "Send one or more image files as the multipart field `images`."}, 422)

    @app.exception_handler(BackendError)
    async def say_that_the_backend_is_gone(_: Request, error: BackendError) -> JSONResponse:
        return JSONResponse({"detail": str(error)}, 503)

    refusals: dict[int | str, dict[str, Any]] = {
        status: {"model": Refusal, "description": text} for status, text in _REFUSALS.items()
    }

    @app.post("/score", response_model=Answer, responses=refusals)
    async def score(images: Annotated[list[UploadFile], File(description="Image files.")]) -> Answer | JSONResponse:
        """Score images. Those that cannot be read get an error beside the others' scores, or 422 if that's all."""
        if len(images) > limits.images:
            raise HTTPException(413, f"{len(images)} images are too many: send at most {limits.images} in a request.")
        for upload in images:
            if (upload.size or 0) > limits.file_bytes:
                raise HTTPException(
                    413, f"A file of {upload.size:,} bytes is too large: at most {limits.file_bytes:,}."
                )
        named = [
            ((upload.filename or f"image {number}")[:LONGEST_NAME], upload) for number, upload in enumerate(images)
        ]
        scores = await asyncio.gather(*(batcher.score(name, upload.read) for name, upload in named))
        for one in scores:
            metrics.image(_is_refused(one))
        answer = Answer(images=[_to_answer(one) for one in scores])
        if not all(map(_is_refused, scores)):
            return answer
        first = answer.images[0]
        refusal = Refusal(detail=f"{first.name}: {first.error}", images=answer.images)
        return JSONResponse(refusal.model_dump(), 422)

    @app.get("/")
    async def what_is_here() -> dict[str, str]:
        """Where what is, for somebody who opens the address in a browser."""
        return {
            "service": f"mriqa {__version__}: image quality from 1 to 5",
            "POST /score": "image files as the multipart field `images`",
            "GET /health": "whether images can be scored",
            "GET /metrics": "for Prometheus",
            "GET /docs": "the description; /openapi.json for programs",
        }

    @app.get("/health", response_model=Health, responses={503: {"model": Health}})
    async def health() -> JSONResponse:
        """Whether the service works; needs no token."""
        status: Literal["ok", "stopped"] = "ok" if batcher.alive else "stopped"
        found = Health(status=status, version=__version__, readout=scorer.readout_name, requests=occupancy.requests)
        return JSONResponse(found.model_dump(), 200 if batcher.alive else 503)

    @app.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
    async def metrics_for_prometheus() -> Response:
        """Counters for Prometheus."""
        return Response(metrics.text(), media_type=CONTENT_TYPE)

    return app


def _is_refused(score: Score) -> bool:
    """Whether the image is to blame, and not what the model answered."""
    return score.error is not None and not score.texts


def _to_answer(score: Score) -> ImageScore:
    mean, std = (None if math.isnan(number) else number for number in (score.score, score.std))
    low, high = score.interval or (None, None)
    return ImageScore(name=score.image, score=mean, std=std, error=score.error, low=low, high=high)
