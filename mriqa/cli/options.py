"""Options that several commands share, and the scorer that they describe.

What says something about a scorer is declared once, as a field of `ScorerOptions`; `takes_scorer` gives the options to
a command.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from functools import wraps
from inspect import Parameter, Signature, signature
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_type_hints

import typer

from mriqa.cli.exits import plain_errors
from mriqa.embedded.packaged import DEFAULT_MODEL
from mriqa.scoring.backend_table import BACKENDS, DEFAULT_BACKEND
from mriqa.scoring.readout_table import READOUT_NAMES

if TYPE_CHECKING:
    from mriqa.answers import AnswerFormat
    from mriqa.scoring.scorer import Scorer

    BackendName = str
    ReadoutName = str
else:  # choices that mypy cannot know
    BackendName = Literal[tuple(BACKENDS)]
    ReadoutName = Literal[READOUT_NAMES]

Model = Annotated[
    str,
    typer.Option(
        "--model",
        "-m",
        show_default=False,
        help="Folder of a saved model, adapter, probe or ConOrd model, or a hub name. Default: the small model in the "
        "package.",
    ),
]
Readout = Annotated[
    ReadoutName,
    typer.Option(
        help="How a score is got from the model. [b]expected[/b]: exact mean over all scores it could state; "
        "[b]greedy[/b]: its most likely answer; [b]sample[/b]: mean of --samples answers; [b]auto[/b]: expected where "
        "the model and its answer format allow it, greedy elsewhere."
    ),
]
BatchSize = Annotated[int, typer.Option(min=1, help="Images that go through the model together.")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, mps. Default: the accelerator if there is one.")]
Samples = Annotated[int, typer.Option(min=1, help="Answers per image with --readout sample.")]
Temperature = Annotated[float, typer.Option(min=0.01, help="Of the answers with --readout sample.")]
Seed = Annotated[int, typer.Option(min=0, help="Of the answers with --readout sample.")]
Format = Annotated[
    str | None,
    typer.Option(
        "--answer-format",
        "--prompt-mode",
        help="Prompt and answer grammar: a bundled name (non_thinking, thinking, visualquality_r1, …) or a YAML file. "
        "Default: the one saved with the model, else non_thinking.",
    ),
]
Resize = Annotated[
    int | None,
    typer.Option(min=1, help="Resize every image to N×N pixels first (bicubic), as `mriqa.json` may ask for too."),
]
Crop = Annotated[
    int | None,
    typer.Option(min=1, help="Average over five crops of N×N pixels (corners and centre), likewise."),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an output file that exists.")]
TrustRemoteCode = Annotated[
    bool, typer.Option("--trust-remote-code", help="Run code that comes with the model. Read it first.")
]

WHERE_IT_RUNS = ("batch_size", "device", "dtype", "trust_remote_code", "backend_options")
PLACES = (
    "readout", "batch_size", "device", "samples", "temperature", "seed", "answer_format", "resize", "crop", "overwrite",
    "trust_remote_code",
)  # fmt: skip
"""The order in a command's help, `--model` being its first option; see `takes_scorer`."""
MODELS = "models"


@dataclass(frozen=True)
class ScorerOptions:
    """What the commands' options say about a scorer; `backend_options` are the backend's own, as far as it has any."""

    model: Model = DEFAULT_MODEL
    readout: Readout = "auto"
    batch_size: BatchSize = 8
    device: Device = None
    samples: Samples = 16
    temperature: Temperature = 1.0
    seed: Seed = 0
    answer_format: Format = None
    resize: Resize = None
    crop: Crop = None
    trust_remote_code: TrustRemoteCode = False
    # Those of `mriqa score` alone, which declares them itself.
    structured: bool = False
    max_new_tokens: int | None = None
    head: str | None = None
    backend: str = DEFAULT_BACKEND
    backend_options: Mapping[str, Any] = field(default_factory=dict)
    # That of `mriqa stability` alone, which compares precisions.
    dtype: str = "auto"

    @property
    def settings(self) -> dict[str, Any]:
        """Those that the scores depend on."""
        return {name: value for name, value in asdict(self).items() if name not in WHERE_IT_RUNS}

    def load_format(self) -> AnswerFormat | None:
        """The answer format, where one is named. Ends the command where there is no such."""
        from mriqa.answers import load_format

        with plain_errors():
            return load_format(self.answer_format) if self.answer_format else None

    def load(self) -> Scorer:
        """The scorer. Ends the command where there is no such answer format; raises what `from_pretrained` does."""
        answer_format = self.load_format()

        from mriqa.scoring.scorer import Scorer

        _keep_transformers_quiet()
        scorer = Scorer.from_pretrained(
            self.model,
            self.readout,
            device=self.device,
            dtype=self.dtype,
            answer_format=answer_format,
            trust_remote_code=self.trust_remote_code,
            batch_size=self.batch_size,
            samples=self.samples,
            temperature=self.temperature,
            seed=self.seed,
            structured=self.structured,
            max_new_tokens=self.max_new_tokens,
            head=self.head,
            backend=self.backend,
            backend_options=self.backend_options,
        )
        if self.resize is not None:
            scorer.views = replace(scorer.views, size=self.resize)
        if self.crop is not None:
            scorer.views = replace(scorer.views, crop=self.crop, count=5)
        return scorer


def _keep_transformers_quiet() -> None:
    """No warnings and no bars from it, without importing it, which not every model needs; what the user set stays."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")  # it reads these when it is imported
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    if "transformers" in sys.modules:
        from transformers.utils import logging

        logging.set_verbosity_error()
        logging.disable_progress_bar()


def takes_scorer(command: Callable[..., None]) -> Callable[..., None]:
    """The command with the options of a scorer beside its own; it gets them as its argument `scorer`.

    In the help they stand where `scorer` stands in the command's signature, in the order of `PLACES`. An option of the
    command's own that has a name there takes that place: its own --batch-size instead of this one, or --overwrite. A
    command that takes several models declares --model itself, as `models`; `scorer` is then of the first.
    """
    types = get_type_hints(ScorerOptions, include_extras=True)
    shared = {
        option.name: Parameter(
            option.name, Parameter.KEYWORD_ONLY, default=option.default, annotation=types[option.name]
        )
        for option in fields(ScorerOptions)
        if option.name in ("model", *PLACES)
    }
    types = get_type_hints(command, include_extras=True)
    own = {
        name: parameter.replace(kind=Parameter.KEYWORD_ONLY, annotation=types[name])
        for name, parameter in signature(command).parameters.items()
    }
    shared = {name: parameter for name, parameter in shared.items() if name not in own}
    if MODELS in own:
        del shared["model"]

    parameters: list[Parameter] = []
    for name, parameter in own.items():
        if name == "scorer":
            both = {**shared, **own}
            parameters += [both[place] for place in PLACES if place in both]
        elif name not in PLACES:
            parameters.append(parameter)
    n_required = sum(parameter.default is Parameter.empty for parameter in parameters)
    if "model" in shared:
        parameters.insert(n_required, shared["model"])

    @wraps(command)
    def with_scorer(**given: Any) -> None:
        options = {name: given.pop(name) for name in shared}
        if MODELS in own:
            options["model"] = given[MODELS][0]
        command(**given, scorer=ScorerOptions(**options))

    seen_by_typer: Any = with_scorer
    seen_by_typer.__signature__ = Signature(parameters)
    seen_by_typer.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return with_scorer
