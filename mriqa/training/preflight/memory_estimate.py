"""The most memory that a process of a run needs, from shapes.

Four moments are compared, and the largest is the peak; to weights, reference model and optimiser's state they add

    rollout     the cache of keys and values, and the logits of the next tokens;
    forward     what all layers keep for backward, the logits, and gradients of earlier micro-batches;
    backward    all gradients, and what one layer keeps;
    loading     the weights alone; pages of their file, which the system takes back at need, don't count.

What the layers keep is counted (`counted_bytes`); a vision tower's share goes by the formula of `tower_bytes`. Sharding
(DeepSpeed, FSDP) isn't taken into account.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from mriqa.shared_prefix.forward import LOGITS_AT_ONCE
from mriqa.training.preflight.counted_bytes import language_model_bytes
from mriqa.training.preflight.model_shape import ModelShape
from mriqa.training.preflight.pass_shape import PassShape

if TYPE_CHECKING:
    from mriqa.training.config import RunArguments

GIB = 2**30
FLOAT = 4  # bytes: logits are read in float32
COPIES_OF_LOGITS = 4  # logits, their softmax and the gradients of both
COPIES_IN_TRL = 7  # the most that TRL's own head holds of a tile beside its buffer; on CPU it reads every position
TILE = 32768  # entries of the vocabulary that it reads at a time
OWN_ON_CPU = 120 << 20  # code and objects that a run brings into its process, measured
COPIES_IN_SAMPLING = 4  # logits in float32, after the processors, their softmax, and the draw's own


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes of one process.

    Attributes:
        weights: of the model, adapters among them.
        reference: of the frozen copy that the KL penalty refers to; 0 with adapters or without the penalty.
        trained: of the weights that are trained, and so of their gradients.
        optimiser: two numbers for each of them (AdamW).
        activations: what forward keeps for backward, at its end.
        logits: of that pass, over the vocabulary.
        cache: keys and values of a rollout.
        own: what a run brings into its process beside tensors; not known, and 0, beside an accelerator.
        saved_model: what the final model takes on disk.
        moments: the whole memory at each moment that could be the peak, by name.
    """

    weights: int
    reference: int
    trained: int
    optimiser: int
    activations: int
    logits: int
    cache: int
    own: int
    saved_model: int
    moments: dict[str, int]

    @property
    def peak(self) -> int:
        return max(self.moments.values())

    @property
    def moment(self) -> str:
        """When the peak is."""
        return max(self.moments, key=lambda name: self.moments[name])

    def __str__(self) -> str:
        parts = {
            "weights": self.weights,
            "reference": self.reference,
            "gradients": self.trained,
            "optimiser": self.optimiser,
            "activations": self.activations,
            "logits": self.logits,
            "key-value cache": self.cache,
            "process": self.own,
        }
        listed = ", ".join(f"{name} {gib(size)}" for name, size in parts.items() if size)
        return f"{gib(self.peak)} at most, in {self.moment} ({listed})"


def gib(size: float) -> str:
    """Bytes in words."""
    if size < GIB:
        return f"{1024 * size / GIB:.3g} MiB"
    return f"{size / GIB:.2f} GiB" if size < 10 * GIB else f"{size / GIB:.1f} GiB"


def estimate_memory(shape: ModelShape, passes: PassShape, arguments: RunArguments, config: Any) -> MemoryEstimate:
    """The memory of a run from the shapes of its model and of its passes."""
    half = torch.bfloat16 if config.bf16 else torch.float16 if config.fp16 else None
    checkpointing = bool(config.gradient_checkpointing)
    one, two = (
        language_model_bytes(shape, layers, passes.rows, passes.tokens, checkpointing=checkpointing, autocast=half)
        for layers in (1, 2)
    )
    layers = one + (shape.text.num_hidden_layers - 1) * (two - one)
    activations = layers + passes.images * (_tower_bytes(shape, passes, half, checkpointing) + passes.pixels * FLOAT)
    logits = _logits(shape, passes, config.use_cpu)
    trained, weights = shape.trained, shape.weights
    reference = weights if getattr(config, "beta", 0) and not arguments.lora_r else 0
    optimiser = 2 * trained
    cache = _cache(shape, passes)
    sampling = COPIES_IN_SAMPLING * passes.sampled * shape.text.vocab_size * FLOAT
    earlier = trained if config.gradient_accumulation_steps > 1 else shape.embedding
    own = OWN_ON_CPU if config.use_cpu else 0
    held = own + weights + reference + optimiser
    moments = {
        "loading": own + weights + reference,
        "a rollout": held + cache + sampling,
        "the forward pass": held + activations + logits + earlier,
        "the backward pass": held + trained + one + shape.embedding,
    }
    return MemoryEstimate(
        weights=weights,
        reference=reference,
        trained=trained,
        optimiser=optimiser,
        activations=activations,
        logits=logits,
        cache=cache,
        own=own,
        saved_model=trained if arguments.lora_r else weights,
        moments=moments,
    )


def _logits(shape: ModelShape, passes: PassShape, on_cpu: bool) -> int:
    if not passes.shared:
        positions = passes.rows * (passes.tokens if on_cpu else passes.read)
        return positions * (TILE + COPIES_IN_TRL * min(shape.text.vocab_size, TILE)) * FLOAT
    positions = min(passes.rows * passes.read, max(1, LOGITS_AT_ONCE // shape.text.vocab_size))
    return COPIES_OF_LOGITS * positions * shape.text.vocab_size * FLOAT


def _cache(shape: ModelShape, passes: PassShape) -> int:
    text: Any = shape.text
    head = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
    copies = passes.sampled_images if passes.shared else passes.sampled  # of the prompt
    tokens = copies * passes.prompt_tokens + passes.sampled * passes.completion
    return 2 * int(text.num_hidden_layers) * heads * head * tokens * shape.dtype.itemsize


def _tower_bytes(shape: ModelShape, passes: PassShape, half: torch.dtype | None, checkpointing: bool) -> int:
    """What a vision transformer keeps of one picture for backward; 0 where no gradient goes through it.

    Of each patch a block keeps the inputs and outputs of two normalisations, queries, keys, values, two copies of what
    attention gives, the residual, and the inner layer before and after its nonlinearity.
    """
    vision = shape.vision
    if not shape.tower_trained or not passes.patches:
        return 0
    size = half.itemsize if half else shape.dtype.itemsize
    block = passes.patches * (9 * vision.width + 2 * vision.inner) * size
    if checkpointing:
        return block + vision.depth * passes.patches * vision.width * size
    return vision.depth * block
