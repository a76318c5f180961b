"""Qwen's real vocabulary as a fast tokenizer, from the ranks that the registry package `dashscope` carries.

Ranks say which pairs of bytes merge first; the two parts of a token are what is left of it before its own, last, merge.
"""

from __future__ import annotations

import base64
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any

from mriqa.embedded.tokenizer import CHAT_TEMPLATE
from mriqa.errors import SettingsError

SPECIAL = (
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>", "<|box_start|>",
    "<|box_end|>", "<|quad_start|>", "<|quad_end|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>",
    "<|image_pad|>", "<|video_pad|>",
)  # fmt: skip
"""Behind the ranks, in this order."""
PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def ranks_file() -> Path:
    """qwen.tiktoken of the installed package. Raises SettingsError where it isn't installed."""
    found = find_spec("dashscope")
    if found is None or found.origin is None:
        raise SettingsError("Qwen's vocabulary is in the package dashscope: pip install --no-deps dashscope.")
    return Path(found.origin).parent / "resources" / "qwen.tiktoken"


def qwen_tokenizer(file: Path) -> Any:
    """The tokenizer of Qwen2 to Qwen3-VL, with our chat template, padding on the left."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    ranks = {
        base64.b64decode(token): int(rank)
        for token, rank in (line.split() for line in file.read_bytes().splitlines() if line)
    }
    letters = _byte_letters()

    def spelled(token: bytes) -> str:
        return "".join(letters[byte] for byte in token)

    merges = []
    for token, rank in sorted(ranks.items(), key=lambda item: item[1]):
        if len(token) > 1:
            parts = _before_last_merge(token, ranks, rank)
            merges.append((spelled(parts[0]), spelled(parts[1])))
    bpe = Tokenizer(models.BPE({spelled(token): rank for token, rank in ranks.items()}, merges))
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PATTERN), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    bpe.decoder = decoders.ByteLevel()
    bpe.add_special_tokens([AddedToken(token, normalized=False) for token in SPECIAL])
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        padding_side="left",
        chat_template=CHAT_TEMPLATE,
    )


def _before_last_merge(token: bytes, ranks: dict[bytes, int], own: int) -> list[bytes]:
    """The two parts of a token, by the merges of lower rank than its own."""
    parts = [bytes([byte]) for byte in token]
    while len(parts) > 2:
        pairs = [(ranks.get(left + right, own), place) for place, (left, right) in enumerate(pairwise(parts))]
        rank, place = min(pairs)
        if rank >= own:
            break
        parts[place : place + 2] = [parts[place] + parts[place + 1]]
    return parts


def _byte_letters() -> dict[int, str]:
    """The printable letter that byte-level BPE writes for each byte (GPT-2's table)."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + place) for place, byte in enumerate(others)}
