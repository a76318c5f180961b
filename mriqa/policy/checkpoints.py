"""Checkpoints that are whole or absent, and that resume with the weights they hold.

What transformers 5.17's Trainer does otherwise, and is cured by `RunTrainer` with what is here:

* It writes a checkpoint in place, so a full disk or a killed process leaves a broken one that a resumed run picks up:
  ours is written in `.saving`, flushed to the disk and renamed once complete. What lies in `.saving` can be deleted.
* It deletes in place too: ours are first renamed into `.saving`, so that nothing half-deleted has a checkpoint's name.
* It loads the weights of a full fine-tune of Qwen2-VL, Qwen2.5-VL, InternVL, Gemma3 or LLaVA-OneVision by a non-strict
  `load_state_dict` whose keys were renamed, which silently keeps the initial weights: ours go through
  `from_pretrained` and a strict copy.
* Resumed within an epoch on several processes it starts with the first epoch's order, and resumed from its very last
  step within an epoch it trains one step more.
* DeepSpeed unpickles whatever a checkpoint holds: here nothing but tensors and plain values is loaded.
"""

from __future__ import annotations

import errno
import json
import os
import pickle
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from accelerate.utils import is_peft_model
from torch.serialization import safe_globals

from mriqa.errors import UserError

if TYPE_CHECKING:
    from accelerate import Accelerator
    from transformers import PreTrainedModel, Trainer

STAGING = ".saving"
REPLACED = ".replaced"
CONTENTS_FILE = "contents.json"
STATE_FILE = "trainer_state.json"
ARGUMENTS_FILE = "training_args.bin"
CHECKPOINT = re.compile(r"checkpoint-\d+")
FORCE_PLAIN = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"  # torch.load heeds it even where its caller asks for pickles
DISK_FULL = re.compile(
    r"no space left|StorageFull|disk quota|file too large|PytorchStreamWriter|inline_container|basic_ios", re.IGNORECASE
)


class CheckpointError(UserError, RuntimeError):
    """A checkpoint that could not be written, or one that cannot be resumed from, as one sentence."""


def find_checkpoint(output_dir: str | Path, wanted: str | None) -> str | None:
    """The checkpoint to resume from: None for None, a folder as given, or for "auto" the latest whole one, if any.

    Raises CheckpointError where `wanted` is neither "auto" nor a checkpoint's folder.
    """
    if wanted is None or wanted == "auto":
        found = whole_checkpoints(output_dir)
        return str(found[-1]) if wanted and found else None
    if missing := missing_file(wanted):
        raise CheckpointError(
            f"There is no whole checkpoint to resume from at {wanted} ({missing} is missing or cut off): give a "
            'checkpoint-N folder, or "auto" for the latest whole one.'
        )
    return wanted


def whole_checkpoints(output_dir: str | Path) -> list[Path]:
    """The complete `checkpoint-N` folders of a run, oldest step first."""
    return [folder for folder in _checkpoints(output_dir) if missing_file(folder) is None]


def missing_file(checkpoint: str | Path) -> str | None:
    """The first file that a checkpoint lacks, or that isn't as long as it was written; None where it is whole."""
    contents = Path(checkpoint, CONTENTS_FILE)
    try:
        sizes = json.loads(contents.read_text(encoding="utf-8")) if contents.is_file() else {}
    except ValueError:
        return CONTENTS_FILE
    for name in (STATE_FILE, *sizes):
        file = Path(checkpoint, name)
        if not file.is_file() or file.stat().st_size != sizes.get(name, file.stat().st_size):
            return name
    return None


def restore_replaced(folder: str | Path) -> None:
    """Give a folder of a run its name back if the process that was replacing it died between two renames."""
    for old in Path(folder, REPLACED).glob("*"):
        home = Path(folder, old.name)
        if home.exists():
            shutil.rmtree(old)
        else:
            old.rename(home)


def one_per_disk(state: Any) -> Iterator[None]:
    """A loop whose body the main process runs first, then the first process of each node: nodes may share a disk.

    `state` is accelerate's PartialState or Accelerator; every process has to enter the loop.
    """
    for my_turn in (state.is_main_process, state.is_local_main_process):
        if my_turn:
            yield
        state.wait_for_everyone()


def load_weights(model: PreTrainedModel, folder: str | Path) -> None:
    """Copy the weights saved in `folder` (safetensors) into `model` in place; raises where any is missing or extra."""
    saved = type(model).from_pretrained(folder, dtype=model.dtype, use_safetensors=True)
    model.load_state_dict(saved.state_dict(), strict=True)


def has_plain_weights(trainer: Trainer) -> bool:
    """Whether the model is neither an adapter nor sharded: those formats have sound loading of their own."""
    return not (is_peft_model(trainer.model) or trainer.is_deepspeed_enabled or trainer.is_fsdp_enabled)


@contextmanager
def whole_or_absent(final: str | Path, accelerator: Accelerator) -> Iterator[Path]:
    """Hand out a folder to write to and give it the name `final` once the block is done on every process.

    Raises CheckpointError where the disk is full or broken; nothing of the new folder is left then, and all of the old.
    """
    final = Path(final)
    staging = final.parent / STAGING
    for _ in one_per_disk(accelerator):
        restore_replaced(final.parent)
        shutil.rmtree(staging, ignore_errors=True)
    staged = staging / final.name
    try:
        yield staged
        accelerator.wait_for_everyone()
        for _ in one_per_disk(accelerator):
            if staged.is_dir():
                _seal(staged)
                _replace(staged, final)
                shutil.rmtree(staging, ignore_errors=True)
    except Exception as error:
        # Only this process raises; the launcher then ends the others, which wait for it at the next barrier.
        shutil.rmtree(staging, ignore_errors=True)
        if not is_disk_failure(error):
            raise
        raise CheckpointError(_could_not_write(final, error)) from error


def discard_old(run_dir: Path, limit: int, keep: set[str], accelerator: Accelerator) -> None:
    """Delete the oldest checkpoints until `limit` are left, never those of the names to `keep`."""
    for _ in one_per_disk(accelerator):
        found = _checkpoints(run_dir)
        spare = [folder for folder in found if folder.name not in keep]
        kept = len(found) - len(spare)
        _discard(spare[: max(0, len(found) - max(limit, kept))])


@contextmanager
def plain_data_only(checkpoint: str | None, deepspeed: bool) -> Iterator[None]:
    """Let every torch.load within the block refuse pickled code, as one CheckpointError, whatever its caller asked for.

    DeepSpeed asks for pickles and takes no argument that forbids it, so torch's own switch in the environment is set
    for as long as the block lasts: the one place where the project changes something global around a call.
    """
    before = os.environ.get(FORCE_PLAIN)
    os.environ[FORCE_PLAIN] = "1"
    try:
        with safe_globals(_deepspeed_types() if deepspeed else []):
            yield
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{checkpoint} holds something else than tensors and plain values, which could run code of its own, "
            f"and was not loaded ({_first_sentence(error)}): resume from a checkpoint that you trust."
        ) from error
    finally:
        if before is None:
            del os.environ[FORCE_PLAIN]
        else:
            os.environ[FORCE_PLAIN] = before


def is_disk_failure(error: BaseException) -> bool:
    """Whether `error` says that a file could not be written: an OSError, or safetensors' or torch.save's own words."""
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EFBIG)
    # torch.save reports a short write as "[enforce fail at inline_container.cc:672] . unexpected pos 64 vs 0".
    return DISK_FULL.search(str(error)) is not None


def _checkpoints(output_dir: str | Path) -> list[Path]:
    """All `checkpoint-N` folders, whole or not, oldest step first."""
    found = [folder for folder in Path(output_dir).glob("checkpoint-*") if CHECKPOINT.fullmatch(folder.name)]
    return sorted(found, key=lambda folder: int(folder.name.rsplit("-", 1)[-1]))


def _seal(staged: Path) -> None:
    """Flush every file to the disk, so that even a power cut can't leave a name without its bytes, and list them.

    The list lets a later run see what a copy to another disk, or a deletion by other hands, has left out.
    """
    files = [path for path in staged.rglob("*") if path.is_file()]
    if staged / STATE_FILE in files:
        sizes = {path.relative_to(staged).as_posix(): path.stat().st_size for path in sorted(files)}
        contents = staged / CONTENTS_FILE
        contents.write_text(json.dumps(sizes, indent=1) + "\n", encoding="utf-8")
        files.append(contents)
    for path in files:
        with path.open("rb") as file:
            os.fsync(file.fileno())


def _replace(staged: Path, final: Path) -> None:
    """Rename `staged` to `final`; a folder of that name is moved aside, where `restore_replaced` finds it."""
    if not final.exists():
        staged.rename(final)
        return
    old = final.parent / REPLACED / final.name
    old.parent.mkdir(exist_ok=True)
    final.rename(old)
    staged.rename(final)
    shutil.rmtree(old.parent)


def _discard(folders: Iterable[Path]) -> None:
    """Delete checkpoints; whenever this is cut short, none of them is half there under its name."""
    for folder in folders:
        staging = folder.parent / STAGING
        staging.mkdir(exist_ok=True)
        folder.rename(staging / folder.name)
        shutil.rmtree(staging, ignore_errors=True)


def _deepspeed_types() -> list[Any]:
    """The classes, all of them plain data, that DeepSpeed pickles into its own checkpoints."""
    from deepspeed.runtime.fp16.loss_scaler import DynamicLossScaler, LossScaler
    from deepspeed.runtime.zero.config import ZeroStageEnum
    from deepspeed.utils.tensor_fragment import fragment_address

    return [DynamicLossScaler, LossScaler, ZeroStageEnum, fragment_address]


def _first_sentence(error: BaseException) -> str:
    return str(error).strip().split(". ")[0].split("\n")[0]


def _could_not_write(final: Path, error: BaseException) -> str:
    free = shutil.disk_usage(final.parent).free / 2**20
    kept = whole_checkpoints(final.parent)
    rest = f"the checkpoints before it are whole, {kept[-1].name} the latest" if kept else "there was none before it"
    reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else "no space or a size limit"
    return (
        f"{final} could not be saved ({reason}, {free:,.0f} MB free) and nothing of it was kept; {rest}: make room and "
        "run again with --resume_from_checkpoint auto."
    )
