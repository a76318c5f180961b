"""The service under load: 200 clients at once on loopback, for a minute, good and hostile files among each other.

    python benchmarks/serving.py                    # about 80 seconds
    python benchmarks/serving.py --quick            # 20 clients, 5 seconds
    python benchmarks/serving.py --json serving.json

`mriqa serve` runs as a process of its own with the random tiny Qwen3-VL. Every client sends an image, waits for the
answer and sends the next, a hostile one (empty, truncated, a bomb, SVG, a polyglot) each tenth time; on a 429 it waits
as long as Retry-After says. Each answer is checked: the score is that of this image by the `Scorer` alone, the hostile
ones are 4xx with a sentence. In the end every request has one answer, and so says the service's own count.

The costs are the mean seconds per scored image of all clients together, beside one client alone against the same
service, and the peak memory of the service under load, beside that after the lone client.
"""

from __future__ import annotations

import asyncio
import io
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from timing import Claim, machine, parser, write

TOLERANCE = 1e-3


def pictures(count: int) -> list[bytes]:
    """JPEG files of smooth noise, different in size."""
    import numpy as np
    from PIL import Image

    draw = np.random.default_rng(0)
    files = []
    for number in range(count):
        coarse = Image.fromarray(draw.integers(0, 256, (8, 8, 3), dtype=np.uint8))
        buffer = io.BytesIO()
        coarse.resize((128 + 16 * (number % 4), 128), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=90)
        files.append(buffer.getvalue())
    return files


def hostile(sound: bytes) -> list[bytes]:
    """Empty, truncated, too many pixels, SVG, and an image that is a ZIP archive, too."""
    from PIL import Image

    bomb, archive = io.BytesIO(), io.BytesIO()
    Image.new("1", (12_000, 12_000)).save(bomb, "PNG")
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("a.txt", "b")
    return [b"", sound[: len(sound) // 2], bomb.getvalue(), b'<svg xmlns="x"/>', sound + archive.getvalue()]


@dataclass
class Tally:
    """What the clients saw."""

    statuses: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    @property
    def scored(self) -> int:
        return self.statuses["200"]


async def client(
    number: int, url: str, until: float, sound: list[bytes], bad: list[bytes], scores: list[float], tally: Tally
) -> None:
    """Send, wait, check, and again."""
    async with httpx.AsyncClient(base_url=url, timeout=120) as session:
        turn = number
        while time.monotonic() < until:
            turn += 1
            is_bad = bool(bad) and turn % 10 == 0
            which = (turn // 10) % len(bad) if is_bad else turn % len(sound)
            started = time.monotonic()
            try:
                files = {"images": ("image", bad[which] if is_bad else sound[which])}
                response = await session.post("/score", files=files)
            except httpx.HTTPError as error:
                tally.statuses[f"lost: {type(error).__name__}"] += 1
                continue
            tally.statuses[str(response.status_code)] += 1
            if response.status_code == 429:
                await asyncio.sleep(float(response.headers["retry-after"]))
                continue
            body = response.json()
            if is_bad:
                if response.status_code not in (413, 422) or not body.get("detail"):
                    tally.wrong.append(f"hostile file {which}: {response.status_code} {response.text[:200]}")
                continue
            tally.seconds.append(time.monotonic() - started)
            if response.status_code != 200 or abs(body["images"][0]["score"] - scores[which]) > TOLERANCE:
                tally.wrong.append(f"image {which}: {response.status_code} {response.text[:200]}")


async def load(
    clients: int, seconds: float, url: str, sound: list[bytes], bad: list[bytes], scores: list[float]
) -> tuple[Tally, float]:
    """The tally of so many clients, and how long they took."""
    tally, started = Tally(), time.monotonic()
    until = started + seconds
    await asyncio.gather(*(client(n, url, until, sound, bad, scores, tally) for n in range(clients)))
    return tally, time.monotonic() - started


def memory_mib(pid: int, what: str) -> float:
    """VmHWM (peak) or VmRSS (now) of a process."""
    match = re.search(rf"^{what}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.M)
    assert match is not None
    return int(match[1]) / 1024


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def wait_until_up(url: str, server: subprocess.Popen[bytes]) -> None:
    for _ in range(600):
        if server.poll() is not None:
            raise SystemExit("The service ended before it was up.")
        try:
            if httpx.get(f"{url}/health").status_code == 200:
                return
        except httpx.HTTPError:
            time.sleep(0.2)
    raise SystemExit("The service did not come up within two minutes.")


def measure(folder: Path, clients: int, seconds: float, most_requests: int) -> list[Claim]:
    """Start the service, load it, and hold what came out against the scorer alone."""
    from mriqa import Scorer
    from mriqa.embedded import build_tiny_qwen3_vl

    model = build_tiny_qwen3_vl(folder / "model")
    sound = pictures(16)
    scores = [score.score for score in Scorer.from_pretrained(model, device="cpu").score(sound)]
    url = f"http://127.0.0.1:{(port := free_port())}"
    command = [sys.executable, "-m", "mriqa", "serve", "-m", str(model), "--device", "cpu", "--port", str(port)]
    command += ["--max-requests", str(most_requests)]
    server = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, stderr=subprocess.DEVNULL)
    try:
        wait_until_up(url, server)
        alone, alone_seconds = asyncio.run(load(1, max(2.0, seconds / 10), url, sound, [], scores))
        alone_mib = memory_mib(server.pid, "VmHWM")
        together, all_seconds = asyncio.run(load(clients, seconds, url, sound, hostile(sound[0]), scores))
        peak_mib, end_mib = memory_mib(server.pid, "VmHWM"), memory_mib(server.pid, "VmRSS")
        counted = re.findall(r'^mriqa_requests_total\{status="(\d+)"\} (\S+)', httpx.get(f"{url}/metrics").text, re.M)
    finally:
        server.terminate()
        ended = server.wait(60)

    lost = sum(count for status, count in together.statuses.items() if status.startswith("lost"))
    server_errors = sum(count for status, count in together.statuses.items() if status.startswith("5"))
    miscounted = Counter({status: int(float(count)) for status, count in counted})
    miscounted.subtract(together.statuses)
    miscounted.subtract(alone.statuses)
    failures = [*alone.wrong, *together.wrong]
    assert not failures, failures[:3]
    assert not lost and not server_errors and ended in (0, -signal.SIGTERM), (dict(together.statuses), ended)
    assert not any(miscounted.values()), miscounted

    waits = sorted(together.seconds)
    settings: dict[str, Any] = {
        "clients": clients,
        "seconds": round(all_seconds, 1),
        "max_requests": most_requests,
        "answers": dict(together.statuses),
        "lost": lost,
        "wrong": len(failures),
        "images_per_s": together.scored / all_seconds,
        "median_s": waits[len(waits) // 2],
        "p99_s": waits[int(0.99 * (len(waits) - 1))],
        "mib_at_the_end": end_mib,
        **machine(),
    }
    return [
        Claim(
            "serving/seconds per image",
            all_seconds / together.scored,
            alone_seconds / alone.scored,
            "one client",
            "s/image",
            settings,
        ),
        Claim("serving/peak memory", peak_mib, alone_mib, "one client", "MiB", settings),
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """Command line entry."""
    arguments = parser(__doc__).parse_args(argv)
    clients, seconds, most = (20, 5.0, 12) if arguments.quick else (200, 60.0, 128)
    with tempfile.TemporaryDirectory(prefix="mriqa-") as folder:
        claims = measure(Path(folder), clients, seconds, most)
    for name in ("answers", "lost", "wrong", "images_per_s", "median_s", "p99_s"):
        print(f"{name}: {claims[0].settings[name]}")
    write(claims, arguments.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
