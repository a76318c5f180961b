"""Whether a checkpoint can be written: a trial file in the output folder, and room on its disk.

What a checkpoint holds: the weights that are trained (all of them, or the adapter) and the optimiser's state. One more
than are kept is on the disk while the latest is written.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from mriqa.files import WriteError, write_text
from mriqa.training.preflight.findings import Finding, passed, problem
from mriqa.training.preflight.memory_estimate import gib
from mriqa.training.preflight.planned_run import PlannedRun


def check_saving(run: PlannedRun) -> Finding:
    """Write and remove a file where the checkpoints are to go, and compare the disk's room with their size."""
    folder = Path(run.config.output_dir).resolve()
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    trial = existing / ".preflight"
    try:
        write_text("", trial, parents=False)
        trial.unlink()
    except (WriteError, OSError) as error:
        reason = error.strerror or type(error).__name__
        return problem(f"No checkpoint can be written to {folder} ({reason}): set --output_dir to another folder.")
    kept = run.config.save_total_limit
    count = 0 if run.config.save_strategy == "no" else (kept or 2) + 1
    memory = run.memory
    needed = count * (memory.trained + memory.optimiser) + memory.saved_model
    free = shutil.disk_usage(existing).free
    if needed > free:
        return problem(
            f"{count} checkpoints and the model take about {gib(needed)}, and the disk of {folder} has {gib(free)} "
            "free: lower --save_total_limit, or set --output_dir to a larger disk."
        )
    return passed(f"About {gib(needed)} to write to {folder}, {gib(free)} free.")
