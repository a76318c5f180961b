"""How much of the demo's result is its seed? recipes/demo.py with several, and mean ± deviation of its figures.

    python recipes/demo_seeds.py
    python recipes/demo_seeds.py --photos FOLDER --seeds 42 1 2 3 4

Every seed has a demo of its own, data and warm start included, in seed-N under --output; a second run reuses what is
finished. Writes results.json (one value for each seed) and results.md.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import demo

from mriqa.eval.report import write_markdown
from mriqa.files import write_json
from mriqa.training.launching import exit_code

NAMES = {"warm_start": "warm start", "mr_grpo": "after MR-GRPO"}


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Options of the comparison; those behind `--` are the demo's."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("outputs/demo_seeds"), help="folder to write to")
    parser.add_argument("--seeds", type=int, nargs="+", default=[42, 1, 2], help="default 42, 1 and 2")
    parser.add_argument("--photos", type=Path, help="see recipes/demo.py")
    argv = list(sys.argv[1:] if argv is None else argv)
    split = argv.index("--") if "--" in argv else len(argv)
    arguments = parser.parse_args(argv[:split])
    arguments.demo_options = argv[split + 1 :]
    return arguments


def compare(arguments: argparse.Namespace) -> dict[str, dict[str, list[float]]]:
    """Run the demos; SRCC and PLCC of the warm start and of the trained model, one value for each seed."""
    photos = ["--photos", str(arguments.photos)] if arguments.photos else []
    found: dict[str, dict[str, list[float]]] = {name: {"srcc": [], "plcc": []} for name in NAMES.values()}
    for seed in arguments.seeds:
        folder = arguments.output / f"seed-{seed}"
        options = ["--output", str(folder), "--seed", str(seed), *photos, *arguments.demo_options]
        results = demo.run(demo.parse_arguments(options))
        for key, name in NAMES.items():
            for measure, values in found[name].items():
                values.append(results[key][measure])
    write_json({"seeds": arguments.seeds, "results": found}, arguments.output / "results.json")
    write_markdown(found, arguments.output / "results.md")
    print((arguments.output / "results.md").read_text(encoding="utf-8"))
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Command line entry: 0 when done, 2 with one sentence on stderr for settings or data that won't do."""
    arguments = parse_arguments(argv)
    return exit_code(lambda: compare(arguments))


if __name__ == "__main__":
    sys.exit(main())
