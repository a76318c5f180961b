"""torchvision imports in this environment, and the hook goes where it is needed, only there, and into children too."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from mriqa import torchvision_hook

# Stand-ins with the two packages' behaviour that matters: without its operators, torchvision refuses to import.
TORCH = """
class version:
    cuda = {cuda!r}

class library:
    defined = []

    class Library:
        def __init__(self, namespace, kind):
            assert (namespace, kind) == ("torchvision", "FRAGMENT")

        def define(self, schema):
            library.defined.append(schema.split("(")[0])
"""
TORCHVISION = """
import torch

if not torch.version.cuda and not {{"nms", {operator!r}}} <= set(torch.library.defined):
    raise RuntimeError("operator torchvision::nms does not exist")
"""


def run(python: Path | str, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    return subprocess.run([str(python), *arguments], capture_output=True, text=True, env=environment)


@pytest.fixture
def environment(tmp_path):
    """A function that makes an environment of stand-ins: (its Python, its site-packages)."""

    def make(cuda: str | None = None, operator: str = "qnms", torchvision: bool = True) -> tuple[Path, Path]:
        venv.create(tmp_path / "env", with_pip=False)
        (site_packages,) = (tmp_path / "env").glob("lib/python*/site-packages")
        (site_packages / "torch.py").write_text(TORCH.format(cuda=cuda))
        if torchvision:
            (site_packages / "torchvision.py").write_text(TORCHVISION.format(operator=operator))
        return tmp_path / "env" / "bin" / "python", site_packages

    return make


def hook_files(site_packages: Path) -> list[str]:
    return sorted(path.name for path in site_packages.glob("_mriqa*"))


def test_torchvision_works_here():
    """The real ones: v2 transforms on a tensor and on a PIL image, in a process of its own."""
    program = """
import numpy as np, torch
from PIL import Image
from torchvision.transforms import v2
image = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
tensor = v2.functional.pil_to_tensor(Image.fromarray(image))
assert (tensor.permute(1, 2, 0).numpy() == image).all()
constant = torch.full((3, 8, 8), 0.25)
assert torch.allclose(v2.Resize(4, antialias=True)(constant), torch.full((3, 4, 4), 0.25))
assert (v2.functional.horizontal_flip(tensor).numpy() == tensor.numpy()[..., ::-1]).all()
"""
    result = run(sys.executable, "-c", program)
    assert result.returncode == 0, result.stderr


def test_hook_makes_torchvision_importable_in_children_too(environment):
    python, site_packages = environment()
    assert run(python, "-c", "import torchvision").returncode != 0
    for _ in range(2):  # a second set-up ends the same
        result = run(python, torchvision_hook.__file__)
        assert (result.returncode, result.stdout) == (0, "torchvision: hook written for a CPU-only torch\n")
        assert hook_files(site_packages) == ["_mriqa_torchvision_hook.pth", "_mriqa_torchvision_hook.py"]
    child = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import torchvision'], check=True)"
    assert run(python, "-c", child).returncode == 0
    # It costs other programs nothing: torch is imported only when torchvision is.
    assert run(python, "-c", "import sys; sys.exit('torch' in sys.modules)").returncode == 0


def test_nothing_is_written_beside_a_cuda_torch(environment):
    python, site_packages = environment(cuda="13.0")
    result = run(python, torchvision_hook.__file__)
    assert (result.returncode, result.stdout) == (0, "torchvision: imports by itself, nothing to do\n")
    assert hook_files(site_packages) == []


def test_a_hook_that_is_no_longer_needed_goes(environment):
    python, site_packages = environment()
    assert run(python, torchvision_hook.__file__).returncode == 0
    (site_packages / "torch.py").write_text(TORCH.format(cuda="13.0") + "# another build\n")
    assert run(python, torchvision_hook.__file__).returncode == 0
    assert hook_files(site_packages) == []


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"operator": "roi_align"}, r"does not import .*\(RuntimeError: operator .*install matching versions"),
        ({"torchvision": False}, "not both installed"),
    ],
)
def test_what_the_hook_cannot_cure_is_one_sentence(environment, options, sentence):
    python, site_packages = environment(**options)
    result = run(python, torchvision_hook.__file__)
    assert result.returncode == 1
    assert len(result.stderr.splitlines()) == 1
    assert re.search(sentence, result.stderr)
    assert hook_files(site_packages) == []
