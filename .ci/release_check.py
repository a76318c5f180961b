"""`make release-check`: whether the distributions can be given to others.

Builds the sdist and from it the wheel, has twine check their metadata, lists size and licence of everything they ship,
and installs each into an empty environment under the oldest and the newest Python, where it scores a picture without a
network. One line for each check; exit code 1 where one fails or could not be made.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PYTHONS = ("python3.10", "python3.13")
LARGEST_WHEEL, LARGEST_FILE = 12 * 2**20, 8 * 2**20  # bytes
CODE = {".py", ".yaml", ".css", ".csv"}
MODEL = "mriqa/embedded/default/"
# What may lie in a wheel, and under which licence. The model is under LICENSE too; its card names what it is made from.
LICENCES: dict[str, Callable[[str], bool]] = {
    "Apache-2.0 (LICENSE)": lambda name: Path(name).suffix in CODE and not name.startswith(MODEL),
    "Apache-2.0 (the model and its card)": lambda name: name.startswith(MODEL),
    "metadata": lambda name: ".dist-info/" in name,
}
SCORING = """
import math, socket, sys, tempfile, pathlib
def refuse(*_, **__): raise OSError("the network was asked for")
socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
import mriqa, mriqa.eval.metrics, mriqa.reward
assert pathlib.Path(mriqa.__file__).is_relative_to(sys.prefix), mriqa.__file__
import numpy, PIL.Image
path = pathlib.Path(tempfile.mkdtemp()) / "photo.png"
PIL.Image.fromarray(numpy.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=numpy.uint8)).save(path)
(score,) = mriqa.Scorer.from_pretrained(device="cpu").score([path])
assert score.error is None and 1 <= score.score <= 5, score
print(f"{score.score:.6f}")
"""


class CheckError(Exception):
    """A check that failed or couldn't be made, as one sentence."""


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--work", type=Path, default=ROOT / "build" / "release", help="folder for all that is made; emptied"
    )
    parser.add_argument(
        "--pythons", nargs="*", default=PYTHONS, help="commands or paths of the Pythons to install under"
    )
    parser.add_argument("--keep", action="store_true", help="keep the environments, of some 2 GB each")
    options = parser.parse_args(argv)
    work = options.work.resolve()
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    failed = []
    try:
        sdist, wheel = build(work)
        checks = [("metadata", lambda: metadata([sdist, wheel])), ("contents", lambda: contents(wheel, sdist))]
        for python in options.pythons:
            for distribution in (wheel, sdist):
                name = f"{distribution.name} under {python}"
                checks.append((name, lambda d=distribution, p=python: install_and_score(d, p, work, options.keep)))
    except CheckError as error:
        checks, failed = [], ["build"]
        print(f"FAILED  build: {error}", flush=True)
    for name, check in checks:
        try:
            print(f"ok      {name}: {check()}", flush=True)
        except CheckError as error:
            failed.append(name)
            print(f"FAILED  {name}: {error}", flush=True)
    return 1 if failed else 0


def build(work: Path) -> tuple[Path, Path]:
    """The sdist of what git knows, so that nothing that lies about gets in, and the wheel made from that sdist."""
    copy = work / "source"
    listed = run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT)
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, copy / name)
    run([sys.executable, "-m", "build", "--outdir", str(work / "dist"), str(copy)])
    (sdist,), (wheel,) = (work / "dist").glob("*.tar.gz"), (work / "dist").glob("*.whl")
    return sdist, wheel


def metadata(distributions: Sequence[Path]) -> str:
    run([sys.executable, "-m", "twine", "check", "--strict", *map(str, distributions)])
    return "twine has nothing to say"


def contents(wheel: Path, sdist: Path) -> str:
    """Sizes, and a licence for every file of the wheel; and whether the sdist is whole."""
    with zipfile.ZipFile(wheel) as archive:
        files = {info.filename: info.file_size for info in archive.infolist() if not info.is_dir()}
    by_licence: dict[str, list[int]] = {name: [0, 0] for name in LICENCES}
    for name, size in files.items():
        licence = next((licence for licence, is_of in LICENCES.items() if is_of(name)), None)
        if licence is None:
            raise CheckError(f"nothing says under which licence {name} is shipped")
        if size > LARGEST_FILE:
            raise CheckError(f"{name} has {size / 2**20:.1f} MiB, more than {LARGEST_FILE / 2**20:.0f}")
        by_licence[licence][0] += 1
        by_licence[licence][1] += size
    if wheel.stat().st_size > LARGEST_WHEEL:
        raise CheckError(f"the wheel has {wheel.stat().st_size / 2**20:.1f} MiB, more than {LARGEST_WHEEL / 2**20:.0f}")
    if not any(name.endswith(".dist-info/licenses/LICENSE") for name in files):
        raise CheckError("the wheel has no LICENSE")
    card = (ROOT / MODEL / "README.md").read_text(encoding="utf-8")
    if "Apache-2.0" not in card:
        raise CheckError(f"{MODEL}README.md does not name the licence of what the model is made from")
    with tarfile.open(sdist) as archive:
        inside = {name.partition("/")[2] for name in archive.getnames()}
    missing = {"LICENSE", "README.md", "pyproject.toml", "PKG-INFO"} - inside
    if missing:
        raise CheckError(f"the sdist has no {min(missing)}")
    kinds = "; ".join(
        f"{count} files, {size / 2**20:.1f} MiB {licence}" for licence, (count, size) in by_licence.items()
    )
    return f"wheel {wheel.stat().st_size / 2**20:.1f} MiB, sdist {sdist.stat().st_size / 2**20:.1f} MiB; {kinds}"


def install_and_score(distribution: Path, python: str, work: Path, keep: bool) -> str:
    """Install into an empty environment, from outside the repository, and score a picture with no network."""
    environment = work / f"{Path(python).name}-{'wheel' if distribution.suffix == '.whl' else 'sdist'}"
    run([find_python(python), "-m", "venv", str(environment)])
    own = str(environment / "bin" / "python")
    pip = [own, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "-c", str(ROOT / "constraints.txt")]
    run([*pip, "torch==2.13.0"], cwd=work)  # first and exactly, as the Makefile does
    run([*pip, str(distribution)], cwd=work)
    run([own, "-m", "mriqa.torchvision_hook"], cwd=work)
    run([own, "-m", "pip", "check"], cwd=work)
    clean = {"HF_HUB_OFFLINE": "1", "HOME": str(environment), "PATH": os.environ["PATH"], "OMP_NUM_THREADS": "1"}
    score = run([own, "-c", SCORING], cwd=work, env=clean).split()[-1]
    version = run([str(environment / "bin" / "mriqa"), "--version"], cwd=work, env=clean).strip()
    if not keep:
        shutil.rmtree(environment)
    return f"mriqa {version} scores {score} without a network"


def find_python(name: str) -> str:
    """The interpreter of that name: on the path, of pyenv or of uv. Raises CheckError where there is none that runs."""
    for candidate in candidates(name):
        wanted = Path(name).name.removeprefix("python")
        asked = [candidate, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
        done = subprocess.run(asked, capture_output=True, text=True)
        if done.returncode == 0 and (not wanted or done.stdout.strip() == wanted):
            return candidate
    raise CheckError(f"there is no {name} on this machine, so nothing was installed under it")


def candidates(name: str) -> Iterator[str]:
    found = shutil.which(name)
    if found:
        yield found
    version = Path(name).name.removeprefix("python")
    home = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    yield from map(str, sorted(home.glob(f"versions/{version}.*/bin/python")))
    uv = shutil.which("uv")
    if uv:
        done = subprocess.run([uv, "python", "find", "--offline", version], capture_output=True, text=True)
        if done.returncode == 0:
            yield done.stdout.strip()


def run(command: Sequence[str], cwd: Path | None = None, env: dict[str, str] | None = None) -> str:
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True)
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()[-12:]
        raise CheckError(f"{' '.join(map(str, command))[:160]} ended with {done.returncode}:\n" + "\n".join(said))
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
