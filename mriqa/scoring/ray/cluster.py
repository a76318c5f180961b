"""A Ray cluster to score on: one that is running, or one of this machine's own that lives as long as it is needed.

A cluster of one's own listens on the loopback address only, behind a token that nobody else knows, without a dashboard,
and reports to nobody.
"""

from __future__ import annotations

import logging
import os
import secrets
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from mriqa.scoring.reading import BackendError, first_line

OBJECT_STORE = 2**30  # bytes that may be on their way between a cluster of one's own processes; taken as needed
OWN = {  # read when Ray is imported, or by the processes it starts
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # else Ray takes 127.0.0.1 for the machine's address to the outside
    "RAY_AUTH_MODE": "token",
    "RAY_USAGE_STATS_ENABLED": "0",
}
QUIET = {"RAY_BACKEND_LOG_LEVEL": "fatal"}  # else healthy runs print what looks like errors


@dataclass(frozen=True)
class Share:
    """What of the cluster each of `workers` workers holds."""

    workers: int
    cpus: int
    accelerators: int


@dataclass(frozen=True)
class RayCluster:
    """Where to score.

    Attributes:
        address: of a running cluster that this machine belongs to, "HOST:PORT" or "auto"; None starts one here.
        workers: how many processes hold a model each. Default: one per `accelerators` accelerators of the cluster, or
            one per machine where there are none.
        accelerators: how many of them a worker uses; 0 leaves them alone.
        object_store: bytes, of a cluster that is started here.
    """

    address: str | None = None
    workers: int | None = None
    accelerators: int = 1
    object_store: int = OBJECT_STORE

    @contextmanager
    def joined(self) -> Iterator[Share]:
        """Be part of the cluster. Raises BackendError where Ray is not installed, does not start or is not there."""
        if self.address is not None and self.address.startswith("ray://"):
            raise BackendError(
                f"{self.address} is a Ray Client address, over which no files of this machine can be read; run the "
                "command on a machine of the cluster, with --ray-address auto."
            )
        own = {**OWN, "RAY_AUTH_TOKEN": secrets.token_hex(32)} if self.address is None else {}
        with _environment({**QUIET, **own}):
            try:
                import ray
                import ray.data
            except ImportError as error:
                raise BackendError(
                    f"The Ray engine needs Ray Data, which is not installed ({error}): pip install 'mriqa[ray]'."
                ) from error
            on_sigterm = signal.getsignal(signal.SIGTERM)
            try:
                ray.init(log_to_driver=False, logging_level=logging.ERROR, **self._options())
            except Exception as error:  # Ray raises bare ones
                where = "here" if self.address is None else f"at {self.address}"
                raise BackendError(f"No Ray cluster can be used {where}: {first_line(error)}") from error
            if signal.getsignal(signal.SIGTERM) is not on_sigterm:  # Ray's own
                signal.signal(signal.SIGTERM, on_sigterm)
            try:
                logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # the errors it logs are raised as well
                context = ray.data.DataContext.get_current()
                context.enable_progress_bars = False
                context.print_on_execution_start = False
                yield self.share_of([node["Resources"] for node in ray.nodes() if node["Alive"]])
            finally:
                ray.shutdown()

    def _options(self) -> dict[str, Any]:
        if self.address is not None:
            return {"address": self.address}
        return {
            "address": "local",
            "include_dashboard": False,
            "object_store_memory": self.object_store,
            "_node_ip_address": "127.0.0.1",
        }

    def share_of(self, machines: Sequence[Mapping[str, float]]) -> Share:
        """What the cluster's machines, by their resources, give workers of equal size."""
        accelerators = int(sum(machine.get("GPU", 0) for machine in machines))
        if self.accelerators and accelerators >= self.accelerators:
            return Share(self.workers or accelerators // self.accelerators, 1, self.accelerators)
        cpus = [int(machine["CPU"]) for machine in machines if machine.get("CPU", 0) >= 1]
        if not cpus:
            raise BackendError("The Ray cluster has no processors to score on.")
        workers = self.workers or len(cpus)
        per_machine = -(-workers // len(cpus))
        return Share(workers, max(1, min(cpus) // per_machine), 0)


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """Set those variables that are not set, for a while."""
    missing = {name: value for name, value in values.items() if name not in os.environ}
    os.environ.update(missing)
    try:
        yield
    finally:
        for name in missing:
            del os.environ[name]
