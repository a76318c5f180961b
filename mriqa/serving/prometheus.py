"""What a running service tells Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from mriqa.serving.gate import Occupancy

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """Counters of one service, in a registry of their own."""

    def __init__(self, occupancy: Occupancy) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "mriqa_requests", "Uploads answered, by HTTP status.", ["status"], registry=self.registry
        )
        self._images = Counter(
            "mriqa_images", "Images answered: scored or refused.", ["outcome"], registry=self.registry
        )
        self._seconds = Histogram("mriqa_request_seconds", "From request to answer.", registry=self.registry)
        self._batch = Histogram(
            "mriqa_batch_images", "Images in a batch.", buckets=[1, 2, 4, 8, 16, 32, 64], registry=self.registry
        )
        self._model_seconds = Counter("mriqa_model_seconds", "Time spent in the model.", registry=self.registry)
        waiting = Gauge("mriqa_requests_under_way", "Uploads not answered yet.", registry=self.registry)
        waiting.set_function(lambda: occupancy.requests)
        held = Gauge("mriqa_held_bytes", "Most bytes that their bodies may hold.", registry=self.registry)
        held.set_function(lambda: occupancy.held_bytes)

    def request(self, status: int, seconds: float) -> None:
        self._requests.labels(str(status)).inc()
        self._seconds.observe(seconds)

    def image(self, refused: bool) -> None:
        self._images.labels("refused" if refused else "scored").inc()

    def batch(self, images: int, seconds: float) -> None:
        self._batch.observe(images)
        self._model_seconds.inc(seconds)

    def text(self) -> bytes:
        """The exposition format, version 0.0.4."""
        return generate_latest(self.registry)
