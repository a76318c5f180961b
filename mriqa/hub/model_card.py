"""A model card written from a run: facts that the run recorded, and a plain word where it recorded none.

The metadata are huggingface_hub's `ModelCardData` with the evaluations as its model-index; what a card should say is
from Mitchell et al., "Model Cards for Model Reporting" (FAccT 2019). Of the settings only those named here are shown: a
settings file may hold paths and keys that are nobody's business.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mriqa import __version__
from mriqa.eval.report import markdown_table
from mriqa.eval.stability import COLUMNS as STABILITY_COLUMNS
from mriqa.eval.stability import certificate, read_stability, stability_rows
from mriqa.hub.data_sources import (
    broad_settings,
    embedded_settings,
    settings_of_own_data,
    training_rows,
    training_sources,
)
from mriqa.hub.evaluations import Evaluation, eval_results, evaluations_of, for_table
from mriqa.hub.run import CARD_FILE, HubError, Origin, Run, origin_of
from mriqa.hub.upload_plan import PLOTS
from mriqa.hub.usage import usage
from mriqa.reward import REWARDS
from mriqa.scoring.calibrating import COVERAGE_COLUMNS, coverage_rows
from mriqa.scoring.certainty import Calibration

PLACEHOLDER = "your-name/your-model"
SHOWN = (
    "reward", "reward_options", "reward_weights", "estimator", "comparison", "comparison_within", "num_generations",
    "loss_type", "beta", "epsilon", "scale_rewards", "token_credit", "temperature", "constrain_answers", "target",
    "feature_jitter", "aux", "aux_weight", "aux_schedule", "learning_rate", "lr_scheduler_type", "warmup_steps",
    "optim", "weight_decay", "num_train_epochs", "max_steps", "per_device_train_batch_size",
    "gradient_accumulation_steps", "max_completion_length", "freeze_vision", "dtype", "bf16",
    "lora_r", "lora_alpha", "lora_dropout", "min_pixels", "max_pixels", "prompt_mode", "val_readout",
    "metric_for_best_model", "seed", "data_seed",
)  # fmt: skip
"""Settings that a card shows, in this order."""


@dataclass(frozen=True)
class CardOptions:
    """What only the publisher can say.

    Attributes:
        licence: of the published weights, as the Hub spells it (apache-2.0, cc-by-nc-4.0, …); None says nothing.
        data_licences: data set's name -> licence.
        evaluations: files that `mriqa eval --out` wrote for this model.
        merged: whether an adapter is published merged into its base model.
    """

    licence: str | None = None
    data_licences: Mapping[str, str] = field(default_factory=dict)
    evaluations: Sequence[Path] = ()
    merged: bool = False


def write_card(run: Run, repo: str | None = None, options: CardOptions | None = None) -> str:
    """The card's text, metadata first. Without `repo` its examples say `PLACEHOLDER`, which a push fills in.

    Raises HubError where a file of the run or an evaluation cannot be read.
    """
    from huggingface_hub import ModelCardData

    options = options or CardOptions()
    origin, evaluations = origin_of(run), evaluations_of(run, options.evaluations)
    as_adapter = run.is_adapter and not options.merged
    name = repo or PLACEHOLDER
    title = name.partition("/")[2]
    results = eval_results(evaluations)
    metadata = ModelCardData(
        license=options.licence,
        base_model=origin.hub_name,
        base_model_relation=("adapter" if as_adapter else "finetune") if origin.hub_name else None,
        library_name="peft" if as_adapter else "transformers",
        pipeline_tag="image-text-to-text",
        tags=["image-quality-assessment", "mriqa", *(["grpo"] if "reward" in run.settings else []),
              *(["lora"] if as_adapter else [])],
        model_name=title if results else None,
        eval_results=results or None,
    )  # fmt: skip
    sections = [
        f"# {title}",
        _summary(run, origin, as_adapter, options.merged),
        usage(run, origin, name, as_adapter),
        _evaluation(run, evaluations),
        _stability(run),
        _certainty(run),
        _data(run, options.data_licences),
        _training(run, origin),
        _limitations(run, evaluations),
        _licence(options.licence, origin),
        f"Written by `mriqa card` {__version__} from what the run recorded.",
    ]
    return f"---\n{metadata.to_yaml()}\n---\n\n" + "\n\n".join(section for section in sections if section) + "\n"


def read_card(run: Run, repo: str, merged: bool) -> str | None:
    """The card in the run's folder, with the name of the repository filled in; None where there is none.

    Raises HubError where its metadata are broken or it describes an adapter and not merged weights, or the reverse.
    """
    from huggingface_hub import ModelCard

    path = run.folder / CARD_FILE
    if not path.is_file():
        return None
    text = path.read_text(encoding="utf-8").replace(PLACEHOLDER, repo)
    renew = f"write it again with `mriqa card {run.folder}{' --merge' if merged else ''} --overwrite`"
    try:
        library = ModelCard(text).data.to_dict().get("library_name")
    except Exception as error:  # YAML's errors, and plain ones for fields of the wrong type
        raise HubError(f"{path} has broken metadata; correct them, or {renew}.") from error
    if (library == "peft") != (run.is_adapter and not merged):
        raise HubError(f"{path} does not fit what would be pushed (library_name {library}); {renew}.")
    return text


def _summary(run: Run, origin: Origin, as_adapter: bool, merged: bool) -> str:
    what = "LoRA adapter" if as_adapter else "model (LoRA merged into its base)" if merged else "model"
    base = f"[{origin.hub_name}](https://huggingface.co/{origin.hub_name})" if origin.hub_name else origin.name
    stages = " → ".join(_stage(settings) for settings in origin.stages)
    return (
        f"This {what} gives a picture a quality score from 1 (bad) to 5 (excellent).\n\n"
        f"* Base model: {base}\n* Training: {stages}\n* It is asked: “{' '.join(run.answer_format.user.split())}”\n"
        f"* It answers: `{' '.join(run.answer_format.template.split())}`"
    )


def _stage(settings: Mapping[str, Any]) -> str:
    if "reward" not in settings:
        return "supervised warm start"
    rewards = " + ".join(_reward_name(name) for name in _listed(settings["reward"]))
    exact = ", exact expectation over all scores" if settings.get("estimator") == "exact" else ""
    return f"MR-GRPO (reward: {rewards}{exact})"


def _evaluation(run: Run, evaluations: Sequence[Evaluation]) -> str:
    text = "## Evaluation\n\n"
    if not any(one.split != "validation" and not one.earlier for one in evaluations):
        text += "**Not evaluated on held-out pictures.** `mriqa eval --out FILE` measures that, and "
        text += "`mriqa card --eval FILE` shows it.\n\n"
    if evaluations:
        text += markdown_table(for_table(evaluations))
        text += (
            "\nAgreement with human scores: rank (SRCC, KRCC) and linear correlation (PLCC), RMSE after a fitted "
            "logistic; beside a value its 95 % bootstrap interval over the pictures. "
        )
        text += _demo_test(run)
    plots = "\n".join(f"![{about}]({name})" for name, about in PLOTS.items() if (run.folder / name).is_file())
    return f"{text}\n\n{plots}".strip()


def _stability(run: Run) -> str:
    """What `mriqa stability` left beside the model. Raises StabilityError where that is broken."""
    found = read_stability(run.model)
    if found is None:
        return (
            "## Stability\n\n**Not measured.** `mriqa stability --model MODEL --out MODEL/stability.json` measures how "
            "far scores move when pictures are cropped, resized or encoded again; a card written afterwards shows it."
        )
    left_out = "".join(f"\nNot measured: {name}. {why}\n" for name, why in found["left_out"].items())
    source = found.get("source", f"{found['pictures']} pictures")
    return (
        f"## Stability\n\nHow far scores move, in points of 1 to 5, on {source} (readout {found['readout']}) when "
        "the same pictures are changed a little or scored in another way; and the rank "
        f"correlation with the scores of the pictures as they are. {certificate(found)}\n\n"
        f"{markdown_table(stability_rows(found), STABILITY_COLUMNS)}{left_out}"
    ).strip()


def _certainty(run: Run) -> str:
    """What `mriqa calibrate` left beside the model. Raises CalibrationError where that is broken."""
    found = Calibration.load(run.model)
    if found is None:
        return (
            "## How sure it is\n\n**Not measured.** `mriqa calibrate --model MODEL --manifest FILE` measures on rated "
            "pictures how far off scores are; a card written afterwards shows it."
        )
    return (
        f"## How sure it is\n\nEach score comes with an interval (readout {found.readout}), made on {found.images:,} "
        f"rated pictures of {found.contents:,} contents. How often people's score lay inside, on contents "
        f"that the interval wasn't made on, and its mean width in points:\n\n"
        f"{markdown_table(coverage_rows(found), COVERAGE_COLUMNS)}\n"
        f"Pictures unlike these get a wider one, up to an expected error of {found.prior:.2f} points."
    )


def _demo_test(run: Run) -> str:
    known = settings_of_own_data(run) and run.results
    return "Test pictures show contents of which training saw none." if known else ""


def _data(run: Run, licences: Mapping[str, str]) -> str:
    sources = training_sources(run, licences)
    lines = ["| training data | amount | licence |", "| --- | --- | --- |"]
    lines += [f"| {source.name} | {source.amount} | {source.licence} |" for source in sources]
    return "## Data\n\n" + "\n".join(lines) + "\n\nLicences are those of the data, not of these weights."


def _training(run: Run, origin: Origin) -> str:
    parts = ["## Training"]
    log = run.log
    if "steps" in log:
        best = f"; the published weights are those of step {log['best_step']}" if log.get("best_step") else ""
        parts.append(f"{log['steps']} steps in {log['seconds']:,.0f} s{best}.")
    seeds = [str(settings.get("seed", "not recorded")) for settings in origin.stages]
    parts.append(f"Seed{'s' if len(seeds) > 1 else ''}: {', then '.join(seeds)}.")
    about = settings_of_own_data(run)
    if about:
        parts[-1] += f" Seed of the data: {about['seed']}."
    for settings in origin.stages:
        rows = [f"| {name} | {_shown(name, settings[name], settings)} |" for name in SHOWN if _is_set(settings, name)]
        parts.append("\n".join([f"| {_stage(settings)} | |", "| --- | --- |", *rows]))
    parts.append(_versions(run))
    return "\n\n".join(parts)


def _versions(run: Run) -> str:
    if run.versions:
        return f"Versions in training: {_named(run.versions)}."
    saved = f"; the model was saved by {_named(run.saved_by)}" if run.saved_by else ""
    return f"Versions in training: not recorded by this older run{saved}."


def _named(versions: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def _limitations(run: Run, evaluations: Sequence[Evaluation]) -> str:
    points = [
        "Scores follow the raters of the training data. On other kinds of pictures, distortions and displays the "
        "agreement above does not hold; measure it with `mriqa eval`.",
        "A score speaks of technical quality as those raters saw it, not of beauty, content or truth.",
    ]
    rmse = next((one.measures["rmse"] for one in evaluations if not one.earlier and one.measures.get("rmse")), None)
    if rmse:
        points.append(f"Differences well below {rmse:.2f} points (the RMSE above) between two pictures mean little.")
    if rows := training_rows(run):
        low, high = min(row.mos for row in rows), max(row.mos for row in rows)
        points.append(f"It was trained on scores from {low:.2f} to {high:.2f}; beyond them it extrapolates.")
    if about := embedded_settings(run):
        distortions = dict.fromkeys(about["distortions"])
        points.append(
            f"It knows {len(distortions)} distortions ({', '.join(distortions)}), one in a picture, and its labels say "
            "nothing of the content. What else can be wrong with a picture is unknown to it."
        )
    if broad_settings(run):
        points.append("Nobody rated its training pictures: most of their labels were measured beside the originals.")
    if run.is_embedded:
        points.append("A tiny model that shows the method; do not decide anything of weight by it.")
    points.append("One training run with one seed: how much another would differ is not known from it.")
    return "## Limitations\n\n" + "\n".join(f"* {point}" for point in points)


def _licence(licence: str | None, origin: Origin) -> str:
    own = f"These weights: {licence}." if licence else "Nobody has stated a licence for these weights."
    return f"## Licence\n\n{own} Base model: {origin.licence}."


def _is_set(settings: Mapping[str, Any], name: str) -> bool:
    unused = (
        (name.startswith("lora_") and not settings.get("lora_r"))
        or (name.startswith("aux") and settings.get("aux", "none") == "none")
        or (name == "num_train_epochs" and settings.get("max_steps", -1) > 0)
    )
    return settings.get(name) not in (None, "", [], {}, -1) and not unused


def _shown(name: str, value: Any, settings: Mapping[str, Any]) -> str:
    if name == "reward":
        return ", ".join(_reward_name(one) for one in _listed(value))
    if name == "reward_options" and not set(_listed(settings.get("reward"))) <= set(REWARDS):
        return "not shown (a reward of one's own)"
    if name == "prompt_mode":
        return Path(str(value)).name
    if isinstance(value, (list, dict)):
        return f"`{json.dumps(value)}`"
    return str(value).replace("|", "\\|")


def _reward_name(name: str) -> str:
    """A reward's name; of a function in a file, the file without its folders."""
    return name if name in REWARDS else Path(name).name


def _listed(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else list(value or [])
