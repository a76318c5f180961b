"""A policy and its reference model made ready for a trainer that isn't TRL's GRPOTrainer.

The exact estimator trains the same policies against the same KL divergence, without the rollout stack. What TRL's
constructor does with a model that is loaded already is done here, by TRL's own helpers where it has them: adapters,
padding, checkpointing, dropout, and a frozen copy of the initial weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from accelerate.utils import is_peft_model
from trl.models import prepare_deepspeed, prepare_fsdp
from trl.trainer.callbacks import SyncRefModelCallback
from trl.trainer.utils import create_model_from_path, disable_dropout_in_model, get_config_model_id, use_adapter

from mriqa.errors import SettingsError

if TYPE_CHECKING:
    from peft import PeftConfig
    from transformers import Trainer

REFERENCE_ADAPTER = "ref"


def prepare_policy(model: Any, tokenizer: Any, args: Any, peft_config: PeftConfig | None) -> Any:
    """The model to train: with its adapter, if any, its pad token, and gradients that reach through checkpoints.

    Args:
        model: loaded, bare or an adapter on its base model.
        tokenizer: whose pad token the model is told.
        args: a `ScoreGRPOConfig`; ZeRO-3 with an adapter sets its `gradient_checkpointing_kwargs` to reentrant ones.
        peft_config: an adapter to add; its weights are drawn from torch's global generator.
    """
    zero3 = args.deepspeed_plugin is not None and args.deepspeed_plugin.zero_stage == 3
    model.config.get_text_config().pad_token_id = tokenizer.pad_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    if peft_config is not None:
        from peft import get_peft_model

        # ZeRO-3 gathers parameters into buffers of one type, so the adapter keeps its base model's (TRL #6089).
        model = get_peft_model(model, peft_config, autocast_adapter_dtype=not zero3)
    elif is_peft_model(model) and args.beta:
        _copy_adapter(model)
    if is_peft_model(model) and args.gradient_checkpointing:
        if zero3:
            args.gradient_checkpointing_kwargs = {**(args.gradient_checkpointing_kwargs or {}), "use_reentrant": True}
        model.enable_input_require_grads()
    if args.disable_dropout:
        disable_dropout_in_model(model)
    return model


def reference_model(trainer: Trainer) -> Any:
    """The initial model again, frozen and placed; None without a KL penalty, and where an adapter can be left out."""
    args: Any = trainer.args
    model: Any = trainer.model
    if not args.beta or is_peft_model(model):
        if args.sync_ref_model:
            raise SettingsError(
                "sync_ref_model moves a reference model of its own, which --beta 0 and adapters have none of: leave "
                "it out."
            )
        return None
    options = {**(args.model_init_kwargs or {}), "dtype": model.dtype}
    if args.distributed_state.distributed_type in ("MULTI_GPU", "DEEPSPEED"):
        options["device_map"] = None  # TRL: "auto" fails where processes share the work
    options.setdefault("attn_implementation", model.config._attn_implementation)
    reference: Any = create_model_from_path(get_config_model_id(model.config), **options)
    if args.disable_dropout:
        disable_dropout_in_model(reference)
    if trainer.is_deepspeed_enabled:
        reference = prepare_deepspeed(reference, trainer.accelerator)
    elif trainer.is_fsdp_enabled:
        reference = prepare_fsdp(reference, trainer.accelerator)
    else:
        reference = trainer.accelerator.prepare_model(reference, evaluation_mode=True)
    if args.sync_ref_model:
        trainer.add_callback(SyncRefModelCallback(ref_model=reference, accelerator=trainer.accelerator))
    return reference


@contextmanager
def without_training(trainer: Trainer) -> Iterator[Any]:
    """An adapted model as it was at the start: its adapter left out, or the copy of one that was trained further."""
    model: Any = trainer.accelerator.unwrap_model(trainer.model)
    with use_adapter(model, adapter_name=REFERENCE_ADAPTER if REFERENCE_ADAPTER in model.peft_config else None):
        yield trainer.model


def _copy_adapter(model: Any) -> None:
    model.add_adapter(REFERENCE_ADAPTER, model.peft_config["default"])
    for name, weight in model.named_parameters():
        if ".default." in name:
            copy = model.get_parameter(name.replace(".default.", f".{REFERENCE_ADAPTER}."))
            copy.data.copy_(weight.data)
