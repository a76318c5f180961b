"""Decoding in another process: in turn, at once, within time and memory, and whatever becomes of that process."""

from __future__ import annotations

import io
import os
import signal
import struct
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from PIL import Image
from seed_images import HEIGHT, WIDTH, encoded

from mriqa import decoder_process
from mriqa.decoder_process import DecoderProcessError, decode
from mriqa.images import ImageError, load_image

SOUND = encoded("JPEG2000")
linux = pytest.mark.skipif(sys.platform != "linux", reason="limits time and memory as Linux does")


def large_file() -> bytes:
    """JPEG 2000 of 88 million black pixels in tiles that aren't there: 200 bytes, and a gigabyte."""
    data = bytearray(encoded("JPEG2000", no_jp2=True, tile_size=(64, 64)))
    place = data.index(b"\xff\x51")
    data[place + 6 : place + 14] = struct.pack(">II", 9400, 9400)
    return bytes(data)


def test_one_process_serves_many_pictures_and_several_threads_at_once() -> None:
    expected = ((WIDTH, HEIGHT), Image.open(io.BytesIO(SOUND)).tobytes())
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda _: decode(SOUND, "JPEG2000", 10**6), range(40)))
    assert all(one == expected for one in found)
    assert 1 <= len(decoder_process._idle) <= 4
    before = [one._process.pid for one in decoder_process._idle]
    assert decode(SOUND, "JPEG2000", 10**6) == expected
    assert [one._process.pid for one in decoder_process._idle] == before


def test_refusals_leave_the_process_as_it_was() -> None:
    decode(SOUND, "JPEG2000", 10**6)
    before = [one._process.pid for one in decoder_process._idle]
    for data, pixels, reason in ((SOUND[:40], 10**6, "corrupt|readable"), (SOUND, 100, "too large"), (b"", 9, "empty")):
        with pytest.raises(DecoderProcessError, match=reason):
            decode(data, "JPEG2000", pixels)
    assert [one._process.pid for one in decoder_process._idle] == before


@linux
def test_a_picture_that_takes_too_long_is_refused_and_the_next_one_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    # No file takes long on every machine: this decoder never comes to an end.
    endless = (
        "import itertools, sys; sys.path[:] = {path!r}; import mriqa.decoder_worker as worker;"
        "worker.decoded_here = lambda *request: all(itertools.count(1)); worker.main()"
    )
    monkeypatch.setattr(decoder_process, "_idle", [])
    with monkeypatch.context() as patch:
        patch.setattr(decoder_process, "_PROGRAM", endless)
        with pytest.raises(DecoderProcessError, match="more than 0 seconds"):
            decode(SOUND, "JPEG2000", 10**6, seconds=0)
    assert load_image(SOUND).size == (WIDTH, HEIGHT)
    decoder_process._idle.pop().end()


@linux
def test_a_picture_that_takes_too_much_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    program = (
        "import resource; resource.setrlimit(resource.RLIMIT_AS, (2**29, 2**29));"
        "import sys; sys.path[:] = {path!r}; from mriqa.decoder_worker import main; main()"
    )
    monkeypatch.setattr(decoder_process, "_PROGRAM", program)
    monkeypatch.setattr(decoder_process, "_idle", [])
    with pytest.raises(ImageError, match="memory|corrupt"):
        load_image(large_file())
    assert load_image(SOUND).size == (WIDTH, HEIGHT)
    decoder_process._idle.pop().end()


@linux
def test_a_decoder_that_dies_costs_one_picture() -> None:
    decode(SOUND, "JPEG2000", 10**6)
    for one in decoder_process._idle:
        os.kill(one._process.pid, signal.SIGSEGV)
    for _ in range(len(decoder_process._idle)):
        with pytest.raises(DecoderProcessError, match="its decoder ended"):
            decode(SOUND, "JPEG2000", 10**6)
    assert load_image(SOUND).size == (WIDTH, HEIGHT)


@linux
def test_no_process_stays_behind() -> None:
    program = (
        "import os, sys; from mriqa.images import load_image; from mriqa import decoder_process as d;"
        "load_image(sys.stdin.buffer.read()); print(d._idle[0]._process.pid, flush=True); os._exit(0)"
    )
    run = subprocess.run([sys.executable, "-c", program], input=SOUND, capture_output=True, check=True)
    state = Path(f"/proc/{int(run.stdout)}/stat")
    deadline = time.monotonic() + 60
    while state.exists() and state.read_text().split()[2] != "Z":
        assert time.monotonic() < deadline, "the decoder is still there"
        time.sleep(0.1)
