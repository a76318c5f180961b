"""Checkpoints that are whole or absent, and that resume with the weights they hold.

Two faults of transformers 5.17's Trainer are cured here. A checkpoint is written in place, so a full disk or a killed
process leaves a broken one that a resumed run picks up: ours is written beside and renamed once complete, and older
ones are deleted only after that. And the weights of a full fine-tune of Qwen2-VL, Qwen2.5-VL, InternVL, Gemma3 or
LLaVA-OneVision are loaded by a non-strict `load_state_dict` whose keys were renamed, which silently keeps the initial
weights: ours go through `from_pretrained` and a strict copy.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedModel

STAGING = ".saving"
STATE_FILE = "trainer_state.json"
ARGUMENTS_FILE = "training_args.bin"
DISK_FULL = re.compile(
    r"no space left|StorageFull|disk quota|file too large|PytorchStreamWriter|inline_container|basic_ios", re.IGNORECASE
)


class CheckpointError(RuntimeError):
    """A checkpoint that could not be written, or one that cannot be resumed from, as one sentence."""


def find_checkpoint(output_dir: str | Path, wanted: str | None) -> str | None:
    """The checkpoint to resume from: None for None, a folder as given, or for "auto" the latest whole one, if any.

    Raises CheckpointError where `wanted` is neither "auto" nor a checkpoint's folder.
    """
    if wanted is None or wanted == "auto":
        found = whole_checkpoints(output_dir)
        return str(found[-1]) if wanted and found else None
    if not (Path(wanted) / STATE_FILE).is_file():
        raise CheckpointError(
            f"There is no checkpoint to resume from at {wanted} (no {STATE_FILE} there): give a checkpoint-N folder, "
            'or "auto" for the latest one.'
        )
    return wanted


def whole_checkpoints(output_dir: str | Path) -> list[Path]:
    """The complete `checkpoint-N` folders of a run, oldest step first."""
    found = [path.parent for path in Path(output_dir).glob(f"checkpoint-*/{STATE_FILE}")]
    return sorted(found, key=lambda folder: int(folder.name.rsplit("-", 1)[-1]))


def load_weights(model: PreTrainedModel, folder: str | Path) -> None:
    """Copy the weights saved in `folder` (safetensors) into `model` in place; raises where any is missing or extra."""
    saved = type(model).from_pretrained(folder, dtype=model.dtype, use_safetensors=True)
    model.load_state_dict(saved.state_dict(), strict=True)


class SafeCheckpoints:
    """Mixin for `transformers.Trainer`, to be named before it among the bases."""

    _staged = False

    def _get_output_dir(self: Any, trial: Any) -> str:
        run_dir = super()._get_output_dir(trial)  # type: ignore[misc]
        return os.path.join(run_dir, STAGING) if self._staged else run_dir

    def _save_checkpoint(self: Any, model: Any, trial: Any) -> None:
        from transformers.trainer_utils import rotate_checkpoints

        run_dir = Path(self._get_output_dir(trial))
        final = run_dir / f"checkpoint-{self.state.global_step}"
        best_before = self.state.best_model_checkpoint
        with self._whole_or_absent(final, run_dir / STAGING) as staged:
            try:
                self._staged = True
                super()._save_checkpoint(model, trial)  # type: ignore[misc]
                if self.state.best_model_checkpoint == str(staged):  # the Trainer only knows where it wrote
                    self.state.best_model_checkpoint = str(final)
                    if self.args.should_save:
                        self.state.save_to_json(str(staged / STATE_FILE))
            except BaseException:
                self.state.best_model_checkpoint = best_before
                raise
            finally:
                self._staged = False
        if self.args.push_to_hub:
            self._push_from_checkpoint(str(final))
        if self.args.should_save:
            rotate_checkpoints(
                str(run_dir), self.args.save_total_limit, self.state.best_model_checkpoint, use_mtime=True
            )

    def _push_from_checkpoint(self: Any, checkpoint_folder: str) -> None:
        if not self._staged:  # a staged folder is about to be renamed: pushed once it has its name
            super()._push_from_checkpoint(checkpoint_folder)  # type: ignore[misc]

    def save_final_model(self: Any, folder: str | Path) -> Path:
        """Write the model and its processor to `folder`, whole or not at all, without the pickled arguments."""
        folder = Path(folder)
        with self._whole_or_absent(folder, folder.parent / STAGING) as staged:
            self.save_model(str(staged), _internal_call=True)
            (staged / ARGUMENTS_FILE).unlink(missing_ok=True)
        return folder

    @contextmanager
    def _whole_or_absent(self: Any, final: Path, staging: Path) -> Iterator[Path]:
        """Hand out a folder to write to and give it the name `final` once the block is done on every process."""
        accelerator = self.accelerator
        if accelerator.is_local_main_process:
            shutil.rmtree(staging, ignore_errors=True)
        accelerator.wait_for_everyone()
        staged = staging / final.name
        try:
            yield staged
        except Exception as error:
            # Only this process raises; the launcher then ends the others, which wait for it at the next barrier.
            shutil.rmtree(staging, ignore_errors=True)
            if not is_disk_failure(error):
                raise
            raise CheckpointError(_could_not_write(final, error)) from error
        accelerator.wait_for_everyone()
        # The second turn is for nodes that don't share the first one's disk.
        for my_turn in (accelerator.is_main_process, accelerator.is_local_main_process):
            if my_turn and staged.is_dir():
                _replace(staged, final)
                shutil.rmtree(staging, ignore_errors=True)
            accelerator.wait_for_everyone()

    def _load_from_checkpoint(self: Any, resume_from_checkpoint: str, model: Any = None) -> None:
        if self._has_plain_weights():
            load_weights(self.accelerator.unwrap_model(model or self.model), resume_from_checkpoint)
        else:
            super()._load_from_checkpoint(resume_from_checkpoint, model)  # type: ignore[misc]

    def _load_best_model(self: Any) -> None:
        if self._has_plain_weights():
            load_weights(self.accelerator.unwrap_model(self.model), self.state.best_model_checkpoint)
        else:
            super()._load_best_model()  # type: ignore[misc]

    def _has_plain_weights(self: Any) -> bool:
        """Whether the model is neither an adapter nor sharded: those formats have their own, sound, loading."""
        from accelerate.utils import is_peft_model

        return not (is_peft_model(self.model) or self.is_deepspeed_enabled or self.is_fsdp_enabled)


def is_disk_failure(error: BaseException) -> bool:
    """Whether `error` says that a file could not be written: an OSError, or safetensors' or torch.save's own words."""
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EFBIG)
    # torch.save reports a short write as "[enforce fail at inline_container.cc:672] . unexpected pos 64 vs 0".
    return DISK_FULL.search(str(error)) is not None


def _replace(staged: Path, final: Path) -> None:
    """Rename `staged` to `final`; a folder of that name stays whole until the new one has taken its place."""
    if final.exists():
        final.rename(staged.parent / "replaced")
    staged.rename(final)


def _could_not_write(final: Path, error: BaseException) -> str:
    free = shutil.disk_usage(final.parent).free / 2**20
    kept = whole_checkpoints(final.parent)
    rest = f"the checkpoints before it are whole, {kept[-1].name} the latest" if kept else "there was none before it"
    reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else "no space or a size limit"
    return (
        f"{final} could not be saved ({reason}, {free:,.0f} MB free) and nothing of it was kept; {rest}: make room and "
        "run again with --resume_from_checkpoint auto."
    )
