"""Thousands of files that are nearly images: each gives a picture or our error, soon, and in bounded memory.

MRIQA_LONG_TESTS=1 takes 50,000 of them.
"""

from __future__ import annotations

import os
import signal
import sys

import pytest
from mutate_images import mutated_files
from seed_images import seed_files
from watched_decoding import watch

from mriqa.images import FORMATS, ImageError, load_image

COUNT = 50_000 if os.environ.get("MRIQA_LONG_TESTS") else 4_000
UNREADABLE = {"PPM plain", "TIFF F"}  # by decision: too slow, and no white level

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits memory as Linux does")


def test_every_seed_of_a_format_we_open_is_read_and_no_other():
    for name, data in seed_files().items():
        if name.split()[0] in FORMATS and name not in UNREADABLE:
            assert sorted(load_image(data).size) == [40, 48], name
        else:
            with pytest.raises(ImageError):
                load_image(data)


@pytest.mark.parametrize("decoder, seed", [("load_image", 1), ("open_upload", 2)])
def test_mutated_files_end_in_a_picture_or_our_error(decoder, seed):
    outcome = watch(f"watched_decoding:{decoder}", COUNT, seed)
    print(outcome)
    assert outcome.faults == []
    assert outcome.decoded + outcome.refused == COUNT
    assert min(outcome.decoded, outcome.refused) > COUNT / 10  # neither all broken nor all sound
    assert 0 < outcome.peak_mib < 1024


def test_the_mutations_are_many_and_the_same_each_time():
    files = list(mutated_files(500, seed=3))
    assert files == list(mutated_files(500, seed=3))
    assert len({data for _, data in files}) > 450
    assert {name.split()[0].strip(":") for name, _ in files} >= set(FORMATS)


@pytest.mark.parametrize("fault", ["raises", "hangs", "crashes", "warns", "takes_memory"])
def test_a_faulty_decoder_is_found(fault):
    """Of six files one is fatal; the watcher names it, and goes on with the others."""
    outcome = watch(f"faulty_decoders:{fault}", 6, seed=1, seconds=3.0, memory=2**30)
    (found,) = outcome.faults
    expected = {
        "raises": "raised error: unpack requires",
        "hangs": "more than 3 s",
        "crashes": f"ended with -{int(signal.SIGSEGV)}",
        "warns": "warned look",
        "takes_memory": "raised MemoryError",
    }
    assert expected[fault] in found and found.startswith("3 ")
    assert outcome.decoded == 5
