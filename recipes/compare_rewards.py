"""Compare rewards under the same conditions: same start, data and steps, several seeds (MR-IQA's comparison).

    python recipes/compare_rewards.py --config recipes/configs/tiny.yaml
    python recipes/compare_rewards.py --config my.yaml --test_manifest test.jsonl --resize 448 --seeds 0 1
    python recipes/compare_rewards.py --config my.yaml --rewards "margin (unit)" --sweep num_generations=4,6,8

After MR-IQA's table of regression, ranking and margin rewards at equal settings.
Every reward trains by recipes/mr_grpo.py with the given configuration; only the reward and the seed differ, and what
stands behind `--` goes to every run. Each trained model then scores the test pictures. A run's seconds are those of its
training, and comparable where nothing else ran beside it. Writes results.json (kept up to date, so that an interrupted
comparison goes on where it stopped), results.md and comparison.png.

Behind the name of a reward, " exact" trains with its expectation over all scores instead of sampled answers, and
" + conord" with the ordinal head beside the policy, whose own SRCC is then reported too:

    python recipes/compare_rewards.py --config my.yaml --rewards "margin (unit) exact" "margin (unit) exact + conord"

--sweep OPTION=A,B,… trains every reward with each value of an option of recipes/mr_grpo.py, a row for each:

    --sweep num_generations=2,4,8                     answers a picture, G; the pictures of a batch stay as many
    --sweep comparison=local,global --processes 2     whom a picture is compared with; one process has no others
    --sweep prompt_mode=non_thinking,thinking         for a model that can think, which the embedded one can't

With --processes P each run is P processes that share the configuration's batch.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mriqa.manifest import RatedImage

RECIPE = Path(__file__).with_name("mr_grpo.py")
REWARDS = {
    "margin (unit)": ("margin", {"scale": "unit"}),
    "margin (sigma)": ("margin", {"scale": "sigma"}),
    "ranking": ("ranking", {}),
    "regression (threshold)": ("regression", {"form": "threshold"}),
    "regression (smooth)": ("regression", {"form": "smooth"}),
}
EXACT, HEAD = " exact", " + conord"
CONORD = "conord"
WARM_START_ROW = "warm start"
TEST_HELP = "rated images, on the recipe's scale and from its image_root (default: the embedded test set)"
GENERATIONS, BATCH, COMPARISON = "num_generations", "per_device_train_batch_size", "comparison"


@dataclass(frozen=True)
class Variant:
    """A row of the table: a reward, and options of the recipe that the sweeps set."""

    reward: str
    swept: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return ", ".join([self.reward, *(f"{option} {value}" for option, value in self.swept.items())])


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Options of the comparison; those behind `--` are the recipe's."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, required=True, help="YAML for recipes/mr_grpo.py")
    parser.add_argument("--test_manifest", type=Path, help=TEST_HELP)
    parser.add_argument(
        "--resize",
        type=int,
        help="pixels: resize each test picture to N x N first (bicubic), as `mriqa eval --resize` does",
    )
    parser.add_argument("--embedded_dir", type=Path, default=Path("outputs/embedded"), help="see recipes/mr_grpo.py")
    parser.add_argument("--photos", type=Path, help="see recipes/mr_grpo.py")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4], help="seeds (default 0 to 4)")
    names = [name + estimator + head for head in ("", HEAD) for estimator in ("", EXACT) for name in REWARDS]
    parser.add_argument(
        "--rewards",
        nargs="+",
        choices=names,
        metavar="REWARD",
        default=list(REWARDS),
        help=f'any of: {", ".join(REWARDS)} (default: all of these); each also with "{EXACT}", "{HEAD}" or both behind',
    )
    parser.add_argument(
        "--sweep",
        action="append",
        default=[],
        metavar="OPTION=A,B",
        help="values of an option of the recipe, see above",
    )
    parser.add_argument("--processes", type=int, default=1, help="processes of a run, which share its batch")
    parser.add_argument("--output", type=Path, default=Path("outputs/compare_rewards"), help="folder to write to")
    parser.add_argument("--jobs", type=int, default=1, help="runs at the same time, one CPU thread each if more than 1")
    argv = list(sys.argv[1:] if argv is None else argv)
    split = argv.index("--") if "--" in argv else len(argv)
    arguments = parser.parse_args(argv[:split])
    arguments.recipe_options = argv[split + 1 :]
    if arguments.processes < 1:
        parser.error(f"--processes must be at least 1, not {arguments.processes}")
    if arguments.resize is not None and (arguments.resize < 1 or arguments.test_manifest is None):
        parser.error("--resize takes a number of pixels, of the pictures of a --test_manifest")
    swept: dict[str, list[str]] = {}
    for sweep in arguments.sweep:
        option, _, values = sweep.partition("=")
        if not option or not all(values.split(",")):
            parser.error(f"--sweep takes an option and its values, such as num_generations=4,8, not {sweep!r}")
        swept[option] = values.split(",")
    if COMPARISON in swept and arguments.processes < 2:
        parser.error("local and global comparison sets are the same in one process: give --processes 2 or more")
    arguments.variants = [
        Variant(reward, dict(zip(swept, values))) for reward in arguments.rewards for values in product(*swept.values())
    ]
    return arguments


def compare(arguments: argparse.Namespace) -> dict[str, dict[str, list[float]]]:
    """Train what is missing, evaluate it, and return the name of a variant -> measure -> one value per seed."""
    from mriqa.files import write_json

    ledger = arguments.output / "results.json"
    values: dict[str, dict[str, float]] = json.loads(ledger.read_text()) if ledger.is_file() else {}
    lock = Lock()

    def record(name: str, measures: dict[str, float]) -> None:
        with lock:
            values[name] = measures
            write_json(values, ledger)
            print(f"{name}: " + ", ".join(f"{key} {value:.4f}" for key, value in measures.items()), flush=True)

    test_rows, warm_start = _same_start(arguments)
    if WARM_START_ROW not in values and warm_start is not None:
        record(WARM_START_ROW, evaluate(warm_start, test_rows, arguments))

    def run(variant: Variant, seed: int) -> None:
        folder = arguments.output / "runs" / f"{re.sub(r'[^a-z0-9]+', '_', variant.name).strip('_')}-{seed}"
        train(variant, seed, folder, arguments)
        with lock:  # one evaluation at a time: they share this process
            measures = evaluate(folder / "model", test_rows, arguments)
        measures["seconds"] = json.loads((folder / "training_log.json").read_text())["seconds"]
        record(f"{variant.name} / {seed}", measures)

    missing = [(v, s) for s in arguments.seeds for v in arguments.variants if f"{v.name} / {s}" not in values]
    with ThreadPoolExecutor(arguments.jobs) as pool:
        for future in [pool.submit(run, variant, seed) for variant, seed in missing]:
            future.result()
    runs = {v.name: [values[f"{v.name} / {seed}"] for seed in arguments.seeds] for v in arguments.variants}
    return {name: {key: [run[key] for run in found] for key in found[0]} for name, found in runs.items()} | (
        {WARM_START_ROW: {key: [value] for key, value in values[WARM_START_ROW].items()}} if warm_start else {}
    )


def train(variant: Variant, seed: int, folder: Path, arguments: argparse.Namespace) -> None:
    """One run of the recipe in processes of its own. Raises RuntimeError, naming its log, where it fails."""
    reward = variant.reward
    without_head = reward.removesuffix(HEAD)
    name, options = REWARDS[without_head.removesuffix(EXACT)]
    several = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(arguments.processes)]
    command = [sys.executable, *(several if arguments.processes > 1 else []), str(RECIPE)]
    command += ["--config", str(arguments.config), "--embedded_dir", str(arguments.embedded_dir)]
    command += ["--photos", str(arguments.photos)] if arguments.photos else []
    command += ["--reward", name, "--reward_options", json.dumps({name: options}), "--seed", str(seed)]
    command += ["--estimator", "exact" if without_head.endswith(EXACT) else "sampled"]
    command += ["--aux", CONORD if reward.endswith(HEAD) else "none"]
    command += ["--output_dir", str(folder), "--overwrite", "true", *arguments.recipe_options]
    command += _variant_options(variant, arguments)
    at_once = arguments.jobs * arguments.processes
    environment = {**os.environ, "OMP_NUM_THREADS": "1"} if at_once > 1 else None
    folder.parent.mkdir(parents=True, exist_ok=True)
    log = folder.with_suffix(".log")
    with log.open("w") as out:
        if subprocess.run(command, stdout=out, stderr=subprocess.STDOUT, env=environment).returncode:
            raise RuntimeError(f"the run with {variant.name}, seed {seed} failed; its output is in {log}")


def _variant_options(variant: Variant, arguments: argparse.Namespace) -> list[str]:
    """The swept options; the batch follows G and the processes, so that as many pictures are compared as before."""
    options = dict(variant.swept)
    if GENERATIONS in options or arguments.processes > 1:
        config = _recipe_settings(arguments)[1]
        answers = int(options.get(GENERATIONS, config.num_generations))
        pictures = config.per_device_train_batch_size / config.num_generations / arguments.processes
        options.setdefault(BATCH, str(max(1, round(pictures * answers))))
        if config.images_per_batch is not None:  # of the exact estimator, which samples no answers
            options.setdefault("images_per_batch", str(max(1, config.images_per_batch // arguments.processes)))
    return [word for option, value in options.items() for word in (f"--{option}", value)]


def _recipe_settings(arguments: argparse.Namespace) -> tuple[Any, Any]:
    """What recipes/mr_grpo.py makes of the configuration and of what stands behind `--`."""
    import mr_grpo

    options = ["--config", str(arguments.config), "--embedded_dir", str(arguments.embedded_dir)]
    options += ["--photos", str(arguments.photos)] if arguments.photos else []
    return mr_grpo.parse_arguments(options + arguments.recipe_options)


def evaluate(model: Path, rows: Sequence[RatedImage], arguments: argparse.Namespace) -> dict[str, float]:
    """SRCC and PLCC of a trained model on the test pictures, and the SRCC of its head if it has one."""
    from mriqa.eval.evaluation import evaluate_scores
    from mriqa.scoring import Scorer
    from mriqa.training.embedded_runs import judge

    head = CONORD if (model / CONORD).is_dir() else None
    if arguments.test_manifest is None:
        scores = judge(model, arguments.embedded_dir, rows, head)
    else:
        scorer = Scorer.from_pretrained(model, head=head)
        if arguments.resize is not None:
            scorer.views = replace(scorer.views, size=arguments.resize)
        scores = scorer.score([row.image for row in rows], True)
    mos = [row.mos for row in rows]
    result = evaluate_scores([score.score for score in scores], mos, resamples=1)
    measures = {key: result[key] for key in ("srcc", "plcc")}
    if head is None:
        return measures
    opinions = [math.nan if score.head_score is None else score.head_score for score in scores]
    return {**measures, "head_srcc": evaluate_scores(opinions, mos, resamples=1)["srcc"]}


def _same_start(arguments: argparse.Namespace) -> tuple[list[RatedImage], Path | None]:
    """The test pictures and the model that every run starts from; the embedded ones are built where asked for.

    A test manifest is read first, on the scale and from the folder that the recipe's options name.
    """
    from sft import warm_start

    from mriqa.embedded.packaged import DEFAULT_MODEL, default_model_folder
    from mriqa.manifest import read_manifest
    from mriqa.training.embedded_runs import fill_in_embedded
    from mriqa.training.runs import read_rows, uses_embedded

    recipe, _ = _recipe_settings(arguments)
    if arguments.test_manifest is not None:
        rows = read_rows(recipe, arguments.test_manifest)
    if uses_embedded(recipe):
        recipe = fill_in_embedded(recipe, warm_start)
    if arguments.test_manifest is None:
        rows = read_manifest(arguments.embedded_dir / "data" / "test.jsonl", check_images=False)
    start = default_model_folder() if recipe.model == DEFAULT_MODEL else Path(recipe.model)
    return rows, start if start.is_dir() else None


def main(argv: Sequence[str] | None = None) -> int:
    """Command line entry."""
    from mriqa.eval.plots import reward_comparison
    from mriqa.eval.report import print_table, write_markdown

    arguments = parse_arguments(argv)
    results = compare(arguments)
    trained = {name: measures for name, measures in results.items() if name != WARM_START_ROW}
    start = results.get(WARM_START_ROW)
    title = f"{len(arguments.seeds)} seeds each, mean ± std" if len(arguments.seeds) > 1 else "One seed each"
    print_table(results, title=title)
    write_markdown(results, arguments.output / "results.md", title=title)
    baseline = {key: values[0] for key, values in start.items()} if start else None
    reward_comparison(trained, arguments.output / "comparison.png", title=title, baseline=baseline)
    return 0


if __name__ == "__main__":
    sys.exit(main())
