"""How does quality prediction grow in pretraining? SRCC over the steps of SHAMISA (arXiv 2603.13669, Fig. 5).

    python recipes/shamisa.py --config recipes/configs/shamisa/paper.yaml --images ref_imgs --snapshot_every 5000
    python recipes/shamisa_curve.py --run outputs/shamisa_resnet50 --manifests kadid10k.jsonl csiq.jsonl
    python recipes/shamisa_curve.py --run outputs/shamisa_lite0 --photos my_photographs --images 1200

Probes every snapshot of a run of recipes/shamisa.py, and its final encoder, as recipes/shamisa_probe.py does: ridge
regression on frozen features, by ten splits by content, each snapshot with a penalty of its own. Writes results.json,
results.md and curve.png after each: mean ± deviation of SRCC over the splits, a line for each data set. Run again, it
goes on with the snapshots that it has not probed, also while the pretraining still runs.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import shamisa
import yaml
from shamisa_probe import DataOptions, DataSet, ProbeOptions, grid, probe_encoder, read_data_sets

from mriqa.errors import SettingsError
from mriqa.features.crop_features import load_crop_encoder
from mriqa.files import replacing, write_json, write_text
from mriqa.training.launching import exit_code, parse

RESULTS_FILE, TABLE_FILE, PLOT_FILE = "results.json", "results.md", "curve.png"
MAY_CHANGE = ("run", "output", "cache", "device", "batch_size")

Probed = dict[int, dict[str, Any]]
"""By step, for each data set, what the probe says of it."""


@dataclass
class CurveOptions(DataOptions):
    """Options of the curve: those of the probe, and a run."""

    run: str = field(kw_only=True, metadata={"help": "Folder of a run of recipes/shamisa.py with --snapshot_every."})
    output: str = field(default="outputs/shamisa_curve", metadata={"help": "Folder to write to."})


def curve(options: CurveOptions) -> Probed:
    """Probe what has not been probed; all results by step. Raises UserError for what won't do."""
    pretraining, folders = find_encoders(Path(options.run))
    shared = {each.name: getattr(options, each.name) for each in fields(DataOptions)}
    probe = ProbeOptions(encoders=[f"shamisa:{folder}" for folder in folders.values()], **shared)
    sets = read_data_sets(probe)
    settings = {
        **{name: value for name, value in asdict(options).items() if name not in MAY_CHANGE},
        "data_sets": {own.name: described(own) for own in sets},
        "pretraining": pretraining,
    }
    output = Path(options.output)
    found = kept_results(output / RESULTS_FILE, settings)
    for step, name in zip(folders, probe.encoders, strict=True):
        if step not in found:
            encoder = load_crop_encoder(name, probe.look, probe.crop, probe.device)
            found[step] = probe_encoder(encoder, sets, probe)["no_reference"]
            write_json({"steps": found, "settings": settings}, output / RESULTS_FILE)
            write_curve(found, output)
    write_curve(found, output)  # a run may have been killed before it
    print((output / TABLE_FILE).read_text(encoding="utf-8"))
    if int(pretraining["steps"]) not in folders:
        print(f"{options.run} isn't finished: run this again for the snapshots to come and the final encoder.")
    return found


def find_encoders(run: Path) -> tuple[dict[str, Any], dict[int, Path]]:
    """The options that a run can't change, and its encoders by step. SettingsError where there is no run, or none."""
    file = run / shamisa.OPTIONS_FILE
    if not file.is_file():
        raise SettingsError(f"{run} holds no run of recipes/shamisa.py: name its output_dir with --run.")
    resolved = yaml.safe_load(file.read_text(encoding="utf-8"))
    snapshots = (run / shamisa.SNAPSHOTS_FOLDER).glob("step-*")  # half-written ones have hidden names
    numbers = {folder.name.removeprefix("step-"): folder for folder in snapshots}
    folders = {int(number): folder for number, folder in numbers.items() if number.isdecimal()}
    if (run / shamisa.MODEL_FOLDER).is_dir():
        folders[int(resolved["steps"])] = run / shamisa.MODEL_FOLDER
    if not folders:
        raise SettingsError(
            f"{run} holds no encoder yet: pretrain it with --snapshot_every 5000, or wait for the first."
        )
    fixed = {name: value for name, value in resolved.items() if name not in shamisa.MAY_CHANGE}
    return fixed, dict(sorted(folders.items()))


def described(own: DataSet) -> dict[str, Any]:
    """What tells a data set from another under the same name."""
    labels = "".join(f"{row.id} {row.mos!r}\n" for row in own.rows)
    return {
        "pictures": len(own.rows),
        "contents": len({row.content for row in own.rows}),
        "labels": hashlib.sha256(labels.encode()).hexdigest()[:16],
    }


def kept_results(file: Path, settings: Mapping[str, Any]) -> Probed:
    """What was probed before. SettingsError where that was with other settings, or is something else."""
    if not file.is_file():
        return {}
    try:
        kept = json.loads(file.read_text(encoding="utf-8"))
        former, steps = dict(kept["settings"]), {int(step): own for step, own in kept["steps"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise SettingsError(f"{file} holds something else than a curve: name another --output.") from error
    now = json.loads(json.dumps(settings))
    changed = [name for name in now if former.get(name) != now[name]]
    if changed:
        raise SettingsError(f"{file} is of other settings ({changed[0]}): name another --output, or delete it.")
    return steps


def srcc_curves(found: Probed) -> tuple[list[int], dict[str, np.ndarray]]:
    """Steps in order, and for each data set the SRCC of every split (steps, splits), NaN where there is none."""
    steps = sorted(found)
    names = list(found[steps[0]])
    return steps, {
        name: np.array([found[step][name]["splits"]["srcc"] for step in steps], dtype=float) for name in names
    }


def write_curve(found: Probed, output: Path) -> None:
    """The table and the picture."""
    steps, curves = srcc_curves(found)
    moments = {name: (values.mean(axis=1), _deviation(values)) for name, values in curves.items()}
    rows = {
        f"{step:,}": [f"{mean[place]:.3f} ± {deviation[place]:.3f}" for mean, deviation in moments.values()]
        for place, step in enumerate(steps)
    }
    splits = next(iter(curves.values())).shape[1]
    title = f"## SRCC over the steps of pretraining (Fig. 5): mean ± deviation over {splits} splits"
    write_text("\n".join([title, "", *grid("step", list(curves), rows)]) + "\n", output / TABLE_FILE)
    plot_curve(steps, moments, output / PLOT_FILE)


def plot_curve(steps: Sequence[int], moments: Mapping[str, tuple[np.ndarray, np.ndarray]], path: Path) -> None:
    """A line for each data set, its mean with error bars of one deviation."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4.5), constrained_layout=True)
    for name, (mean, deviation) in moments.items():
        axes.errorbar(steps, mean, yerr=deviation, fmt="o-", markersize=4, capsize=3, label=name)
    axes.set(xlabel="steps of pretraining", ylabel="SRCC on the test parts, mean ± deviation")
    axes.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(integer=True))
    axes.xaxis.set_major_formatter(matplotlib.ticker.StrMethodFormatter("{x:,.0f}"))
    axes.grid(alpha=0.3)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=min(6, len(moments)), fontsize=8)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)
    pyplot.close(figure)


def _deviation(values: np.ndarray) -> np.ndarray:
    """Of each row; 0 where there is one value."""
    return values.std(axis=1, ddof=1) if values.shape[1] > 1 else np.zeros(len(values))


def parse_arguments(argv: Sequence[str] | None = None) -> CurveOptions:
    """Options from the command line and a YAML file. Raises SettingsError for what cannot be right."""
    (options,) = parse((CurveOptions,), __doc__, argv)
    return options


def main(argv: Sequence[str] | None = None) -> int:
    """Command line entry: 0 when done, 2 with one sentence on stderr for settings or data that won't do."""
    return exit_code(lambda: curve(parse_arguments(argv)))


if __name__ == "__main__":
    sys.exit(main())
