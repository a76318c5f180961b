"""Bytes that a forward and a backward pass hold at once, counted on tensors without values.

`FakeTensorMode` runs a module's own code on shapes only, so nothing has to be known about an architecture:
normalisation, grouped heads, adapters, mixed precision and checkpointing cost what their code makes of them. One layer
and two are counted; the others are like the second.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mriqa.shared_prefix.families import FAMILIES
from mriqa.training.preflight.model_shape import ModelShape


class HeldBytes(TorchDispatchMode):
    """Counts the storages that are alive within the block and were not before it.

    Attributes:
        now: bytes held.
        most: the largest `now` so far.
    """

    def __init__(self, before: Iterable[torch.Tensor] = ()) -> None:
        super().__init__()
        self.now = self.most = 0
        self._size: dict[int, int] = {tensor.untyped_storage()._cdata: 0 for tensor in before}

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        results = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(results):
            if isinstance(tensor, torch.Tensor):
                self._see(tensor.untyped_storage())
        return results

    def _see(self, storage: torch.UntypedStorage) -> None:
        place = storage._cdata
        if place not in self._size:
            self._size[place] = storage.nbytes()
            self.now += storage.nbytes()
            self.most = max(self.most, self.now)
            weakref.finalize(storage, self._gone, place)

    def _gone(self, place: int) -> None:
        self.now -= self._size.pop(place, 0)


def language_model_bytes(
    shape: ModelShape, layers: int, rows: int, tokens: int, *, checkpointing: bool, autocast: torch.dtype | None
) -> int:
    """The most bytes that a language model of so many layers holds in a pass, beyond its weights and their gradients.

    Args:
        rows, tokens: of the pass.
        checkpointing: whether layers keep their input only and are computed again.
        autocast: the type of mixed precision, or None.
    """
    from torch._subclasses.fake_tensor import FakeTensorMode

    family = FAMILIES.get(shape.config.model_type)
    with torch.device("meta"):
        model = shape.build(layers)
    with FakeTensorMode():
        _leave_meta(model)
        core = model.get_base_model() if hasattr(model, "get_base_model") else model
        decoder = core.get_decoder()
        decoder.train()
        if checkpointing:
            core.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        for weight in model.parameters():
            if weight.requires_grad:
                weight.register_post_accumulate_grad_hook(_forget_gradient)
        width = shape.text.hidden_size
        embedded = torch.empty(rows, tokens, width, dtype=shape.dtype, requires_grad=True)
        inputs: dict[str, Any] = {"inputs_embeds": embedded}
        if family is not None:
            axes = (3,) if family.three_axes else ()
            inputs["position_ids"] = torch.zeros(*axes, rows, tokens, dtype=torch.long)
            inputs["attention_mask"] = torch.ones(rows, 1, tokens, tokens, dtype=torch.bool)
        before = [*model.parameters(), *model.buffers()]
        with HeldBytes(before) as held:
            with torch.autocast("cpu", dtype=autocast, enabled=autocast is not None):
                hidden = decoder(**inputs, use_cache=False).last_hidden_state
            hidden.sum().backward()
        return held.most


def _leave_meta(model: torch.nn.Module) -> None:
    """Put CPU tensors in the place of meta tensors, shared ones shared as before; `to_empty` can't do it to fakes."""
    moved: dict[int, torch.Tensor] = {}
    for module in model.modules():
        tables: list[dict[str, Any]] = [module._parameters, module._buffers]
        for table in tables:
            for name, tensor in table.items():
                if tensor is not None and id(tensor) not in moved:
                    empty = torch.empty(tensor.shape, dtype=tensor.dtype, device="cpu")
                    is_weight = isinstance(tensor, torch.nn.Parameter)
                    moved[id(tensor)] = torch.nn.Parameter(empty, tensor.requires_grad) if is_weight else empty
                table[name] = None if tensor is None else moved[id(tensor)]


def _forget_gradient(weight: torch.Tensor) -> None:
    weight.grad = None
