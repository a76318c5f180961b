"""What does each piece of SHAMISA do at an affordable size? Its ablations (Tables III and VIII), several seeds, probed.

    python recipes/shamisa_ablations.py --photos ../shared/data/photos
    python recipes/shamisa_ablations.py --photos my_photographs --ablations A0 B7 B8 -- --steps 400 --crop 96

Every ablation and seed is a short run of recipes/shamisa.py from the same weights (configs/shamisa/cpu.yaml, and over
it the options behind `--`). Then the encoder is probed by recipes/shamisa_probe.py, on the photographs with all
labelled distortions and on the manifests that are given; "before" is the encoder before pretraining. Writes
results.json after every encoder, and results.md: mean ± deviation over the seeds of the probe's median SRCC, the
largest weight that a graph of the mixture had at the end, and the rank of the features. A second run goes on with what
is missing. Probes of few pictures spread by some hundredths themselves, so read differences beside the deviations.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import shamisa
import shamisa_probe

from mriqa.errors import SettingsError
from mriqa.files import write_json, write_text
from mriqa.training.launching import exit_code

CONFIG = Path(__file__).parent / "configs" / "shamisa" / "cpu.yaml"
BEFORE = "before"
ABLATIONS = {
    "A0": "full",
    "A4": "learned Φ",
    "B1": "no transport graph",
    "B7": "metadata graphs only",
    "B8": "structure graphs only",
    "D1": "one distortion at a time",
    "D4": "fixed order",
}


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Options of the comparison; those behind `--` are the pretraining's."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--photos", type=Path, required=True, help="photographs to pretrain on, and to distort for probes"
    )
    parser.add_argument("--output", type=Path, default=Path("outputs/shamisa_ablations"), help="folder to write to")
    parser.add_argument(
        "--ablations", nargs="+", default=list(ABLATIONS), help="names in configs/shamisa/ablations.yaml"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="default 0, 1 and 2")
    parser.add_argument(
        "--manifests", nargs="*", default=[], metavar="NAME=FILE", help="rated data sets to probe on too"
    )
    parser.add_argument("--size", nargs="*", default=[], metavar="NAME=SIDE", help="resize their pictures first")
    parser.add_argument("--images", type=int, default=600, help="distorted pictures to probe on (default 600)")
    parser.add_argument("--crop", type=int, default=128, help="side of the probe's crops (default 128)")
    argv = list(sys.argv[1:] if argv is None else argv)
    split = argv.index("--") if "--" in argv else len(argv)
    arguments = parser.parse_args(argv[:split])
    arguments.pretrain_options = argv[split + 1 :]
    return arguments


def compare(arguments: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Run what is missing; by encoder what the probe and the run's log say of it."""
    file = arguments.output / "results.json"
    settings = {
        name: str(value) if isinstance(value, Path) else value
        for name, value in vars(arguments).items()
        if name not in ("output", "ablations", "seeds")
    }
    found: dict[str, dict[str, Any]] = {}
    if file.is_file():
        kept = json.loads(file.read_text(encoding="utf-8"))
        if kept["settings"] != settings:
            raise SettingsError(f"{file} is of other settings: name another --output, or delete it.")
        found = kept["encoders"]
    runs = [(BEFORE, arguments.seeds[0]), *((name, seed) for seed in arguments.seeds for name in arguments.ablations)]
    for name, seed in runs:
        key = BEFORE if name == BEFORE else f"{name}-{seed}"
        if key not in found:
            folder = _pretrained(name, seed, arguments)
            found[key] = {**_probed(folder / shamisa.MODEL_FOLDER, arguments), **_logged(folder)}
            write_json({"settings": settings, "encoders": found}, file)
            write_text(table(found, arguments), arguments.output / "results.md")
    print(table(found, arguments))
    return found


def _pretrained(name: str, seed: int, arguments: argparse.Namespace) -> Path:
    """The folder of one run; it holds a finished encoder afterwards."""
    folder = arguments.output / "runs" / f"{name}-{seed}"
    options = ["--config", str(CONFIG), "--images", "wheels", str(arguments.photos), "--output_dir", str(folder)]
    options += ["--seed", str(seed), *arguments.pretrain_options]
    options += ["--steps", "0"] if name == BEFORE else ["--ablation", name]
    shamisa.pretrain(shamisa.parse_arguments(options))
    return folder


def _probed(model: Path, arguments: argparse.Namespace) -> dict[str, float]:
    """The probe's median SRCC on each data set."""
    output = arguments.output / "probe"  # the distorted pictures in it are the same for all
    options = ["--encoders", f"shamisa:{model}", "--photos", str(arguments.photos), "--images", str(arguments.images)]
    options += ["--crop", str(arguments.crop), "--output", str(output), "--cache", str(arguments.output / "features")]
    options += ["--manifests", *arguments.manifests] if arguments.manifests else []
    options += ["--size", *arguments.size] if arguments.size else []
    shamisa_probe.probe(shamisa_probe.parse_arguments(options))
    (encoder,) = json.loads((output / "results.json").read_text(encoding="utf-8"))["encoders"].values()
    return {name: own["median"]["srcc"] for name, own in encoder["no_reference"].items()}


def _logged(folder: Path) -> dict[str, float]:
    """Of the last line of a run's log: the largest weight of the mixture, and the rank of the features."""
    log = folder / shamisa.PROGRESS_FILE
    lines = log.read_text(encoding="utf-8").splitlines() if log.is_file() else []
    if not lines:
        return {}
    last = json.loads(lines[-1])
    return {"largest weight": max(last["omega"].values()), "rank": last["rank"]}


def table(found: dict[str, dict[str, Any]], arguments: argparse.Namespace) -> str:
    """Markdown: a row for each ablation that has run."""
    columns = list(next(iter(found.values()))) + [c for c in ("largest weight", "rank") if c not in found[BEFORE]]
    rows = {BEFORE: [_cell([found[BEFORE].get(column)]) for column in columns]}
    for name in arguments.ablations:
        own = [found[f"{name}-{seed}"] for seed in arguments.seeds if f"{name}-{seed}" in found]
        if own:
            label = f"{name}, {ABLATIONS[name]}" if name in ABLATIONS else name
            rows[label] = [_cell([each.get(column) for each in own]) for column in columns]
    return "\n".join(shamisa_probe.grid("encoder", columns, rows)) + "\n"


def _cell(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return ""
    return f"{statistics.mean(known):.3f}" + (f" ± {statistics.stdev(known):.3f}" if len(known) > 1 else "")


def main(argv: Sequence[str] | None = None) -> int:
    """Command line entry: 0 when done, 2 with one sentence on stderr for settings or data that won't do."""
    arguments = parse_arguments(argv)
    return exit_code(lambda: compare(arguments))


if __name__ == "__main__":
    sys.exit(main())
