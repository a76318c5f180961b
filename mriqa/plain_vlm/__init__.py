"""A small FastVLM in plain torch, to score with at once: importing transformers' model classes takes seconds.

`load_plain` reads the same folders that `mriqa.models.load_vlm` reads, where it knows all that is in them, and gives a
model and a processor that answer what the "expected" readout asks for, with the same numbers bit by bit. It knows
what the packaged model is made of (a tower of `mriqa.embedded`, a projector, Qwen2) and says None to anything else.
"""

from mriqa.plain_vlm.loading import load_plain

__all__ = ["load_plain"]
