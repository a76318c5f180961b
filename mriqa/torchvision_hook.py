"""Make torchvision importable beside a CPU-only torch: ``python -m mriqa.torchvision_hook``.

The torchvision wheels on the package index are built against CUDA torch. Beside a CPU-only torch their C++
operators fail to load and ``import torchvision`` stops at ``operator torchvision::nms does not exist``, which takes
TRL, timm and the Qwen-VL processors down with it. Nothing in this project calls those operators, so it is enough
that their *schemas* exist. This module writes one import hook into the environment's site-packages, with a ``.pth``
line that starts it, so that child processes (torchrun, vLLM workers) get it too. Where torchvision already imports
by itself nothing is written.
"""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from pathlib import Path

HOOK_NAME = "_mriqa_torchvision_hook"
HOOK_SOURCE = '''\
"""Written by `python -m mriqa.torchvision_hook`: defines torchvision's operator schemas beside a CPU-only torch."""

import importlib.abc
import sys

SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)


class DefineOperatorsFirst(importlib.abc.MetaPathFinder):
    """Finds nothing: it is told that torchvision is about to be imported, acts, and leaves it to the real finders."""

    library = None  # torch forgets the schemas when their library is collected

    def find_spec(self, name, path=None, target=None):
        if name == "torchvision":
            sys.meta_path.remove(self)
            import torch

            if torch.version.cuda is None and getattr(torch.version, "hip", None) is None:
                DefineOperatorsFirst.library = torch.library.Library("torchvision", "FRAGMENT")
                for schema in SCHEMAS:
                    DefineOperatorsFirst.library.define(schema)
        return None


sys.meta_path.insert(0, DefineOperatorsFirst())
'''


def torchvision_error() -> str:
    """What a fresh interpreter of this environment prints when it imports torchvision: empty if that works."""
    attempt = subprocess.run([sys.executable, "-c", "import torchvision"], capture_output=True, text=True)
    return "" if attempt.returncode == 0 else attempt.stderr.strip() or f"exit status {attempt.returncode}"


def install() -> bool:
    """Install the hook into the running environment if it is needed there, and remove it if it no longer is.

    Returns:
        True if the hook was written, False if torchvision imports by itself.

    Raises:
        RuntimeError: torchvision is not installed, or does not import with the hook either; then none is left behind.
    """
    folder = Path(sysconfig.get_path("purelib"))
    hook, start = folder / f"{HOOK_NAME}.py", folder / f"{HOOK_NAME}.pth"
    start.unlink(missing_ok=True)
    hook.unlink(missing_ok=True)
    error = torchvision_error()
    if not error:
        return False
    if "No module named 'torch" in error:
        raise RuntimeError(f"torch and torchvision are not both installed in {sys.prefix}: install them first.")
    hook.write_text(HOOK_SOURCE)
    start.write_text(f"import {HOOK_NAME}\n")
    error = torchvision_error()
    if error:
        start.unlink()
        hook.unlink()
        raise RuntimeError(
            f"torchvision does not import in {sys.prefix} ({error.splitlines()[-1]}); "
            "install matching versions: pip install -c constraints.txt torch torchvision."
        )
    return True


def main() -> None:
    """Install the hook and say what was done."""
    try:
        wrote = install()
    except RuntimeError as error:
        sys.exit(str(error))
    print("torchvision: " + ("hook written for a CPU-only torch" if wrote else "imports by itself, nothing to do"))


if __name__ == "__main__":
    main()
