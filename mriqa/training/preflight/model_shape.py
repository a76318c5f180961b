"""A model's sizes from its configuration alone: weights without values, so that a 70B model costs nothing to look at.

The model is built on torch's "meta" device, with its LoRA adapter and its frozen tower where the run has them.
"""

from __future__ import annotations

import copy
import warnings
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from mriqa.embedded import register
from mriqa.errors import SettingsError
from mriqa.frozen.cached_tower import vision_towers
from mriqa.models import ADAPTER_FILE, model_folder
from mriqa.training.runs import lora_config

if TYPE_CHECKING:
    from mriqa.training.config import RunArguments

BYTES_OF_4BIT = 0.5 + 1 / 64 + 4 / (64 * 256)  # NF4, a byte for 64 weights, and 4 more for 256 of those (QLoRA)


@dataclass(frozen=True)
class VisionShape:
    """A vision transformer: its blocks, its width and the inner width of a block; all 0 for another kind of tower."""

    depth: int
    width: int
    inner: int


@dataclass(frozen=True)
class ModelShape:
    """Sizes of a model as a run trains it.

    Attributes:
        folder: where its configuration and processor lie.
        config: its configuration.
        arguments: the recipe's options.
    """

    folder: Path
    config: Any
    arguments: RunArguments

    @property
    def text(self) -> Any:
        return self.config.get_text_config()

    @property
    def dtype(self) -> torch.dtype:
        name = self.arguments.dtype
        found = getattr(torch, "float32" if name == "auto" else name, None)
        if not isinstance(found, torch.dtype):
            raise SettingsError(f"dtype is float32, bfloat16 or float16, not {name!r}.")
        return found

    def build(self, layers: int | None = None) -> Any:
        """The model as it is trained, with all or some of its language model's layers, on the current device."""
        from transformers import AutoModelForImageTextToText

        config = copy.deepcopy(self.config)
        if layers is not None:
            text = config.get_text_config()
            text.num_hidden_layers = layers
            if getattr(text, "layer_types", None):
                text.layer_types = text.layer_types[:layers]
        model: Any = AutoModelForImageTextToText.from_config(
            config, dtype=self.dtype, trust_remote_code=self.arguments.allow_remote_code
        )
        if self.arguments.freeze_vision:
            for tower in vision_towers(model):
                tower.requires_grad_(False)
        if adapter := lora_config(self.arguments):
            from peft import get_peft_model

            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                model = get_peft_model(model, adapter)
        return model

    @cached_property
    def counted(self) -> Any:
        """The whole model on the "meta" device."""
        with torch.device("meta"):
            return self.build()

    @property
    def parameters(self) -> int:
        """Number of weights, adapters among them."""
        return sum(weight.numel() for weight in self.counted.parameters())

    @property
    def weights(self) -> int:
        """Bytes of all weights, adapters among them."""
        quantised = _quantised(self.counted) if self.arguments.load_in_4bit else set()
        return round(
            sum(
                weight.numel() * (BYTES_OF_4BIT if name in quantised else weight.element_size())
                for name, weight in self.counted.named_parameters()
            )
        )

    @property
    def trained(self) -> int:
        """Bytes of the weights that are trained."""
        return sum(weight.nbytes for weight in self.counted.parameters() if weight.requires_grad)

    @property
    def embedding(self) -> int:
        """Bytes of a gradient of the token embedding, 0 where it isn't trained."""
        weight = self.counted.get_input_embeddings().weight
        return weight.nbytes if weight.requires_grad else 0

    @property
    def tower_trained(self) -> bool:
        """Whether gradients go through the vision tower."""
        towers = vision_towers(self.counted)
        return any(weight.requires_grad for tower in towers for weight in tower.parameters())

    @property
    def tower_parameters(self) -> int:
        return sum(weight.numel() for tower in vision_towers(self.counted) for weight in tower.parameters())

    @property
    def vision(self) -> VisionShape:
        config: Any = getattr(self.config, "vision_config", None)
        depth = getattr(config, "depth", None) or getattr(config, "num_hidden_layers", 0)
        width, inner = getattr(config, "hidden_size", 0), getattr(config, "intermediate_size", 0)
        if getattr(config, "embed_dim", None):  # Qwen2-VL: hidden_size is the language model's
            width, inner = config.embed_dim, round(config.embed_dim * config.mlp_ratio)
        return VisionShape(depth or 0, width or 0, inner or 0)


def shape_of(arguments: RunArguments) -> ModelShape:
    """The sizes of the model that a run trains. Raises ModelError where there is none."""
    from transformers import AutoConfig

    register()
    folder = model_folder(arguments.model)
    if (folder / ADAPTER_FILE).is_file():
        from peft import PeftConfig

        folder = model_folder(PeftConfig.from_pretrained(str(folder)).base_model_name_or_path or "")
    return ModelShape(
        folder, AutoConfig.from_pretrained(folder, trust_remote_code=arguments.allow_remote_code), arguments
    )


def _quantised(model: Any) -> set[str]:
    """Names of the weights that bitsandbytes keeps in 4 bits: those of linear layers, save tower, head and adapters."""
    outside = {id(module) for tower in vision_towers(model) for module in tower.modules()}
    outside.add(id(model.get_output_embeddings()))
    return {
        f"{name}.weight"
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and id(module) not in outside and "lora_" not in name
    }
