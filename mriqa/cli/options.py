"""Options that several commands share, and the scorer that they describe."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from mriqa.cli.exits import plain_errors
from mriqa.embedded.packaged import DEFAULT_MODEL

if TYPE_CHECKING:
    from mriqa.answers import AnswerFormat
    from mriqa.scoring.scorer import Scorer

Model = Annotated[
    str,
    typer.Option(
        "--model",
        "-m",
        show_default=False,
        help="Folder of a saved model or adapter, or a hub name. Default: the small model that comes with mriqa.",
    ),
]
Readout = Annotated[
    Literal["auto", "expected", "greedy", "sample"],
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


WHERE_IT_RUNS = ("batch_size", "device", "trust_remote_code", "backend_options")


@dataclass(frozen=True)
class ScorerOptions:
    """What the commands' options say about a scorer; `backend_options` are the backend's own, as far as it has any."""

    model: str = DEFAULT_MODEL
    readout: str = "auto"
    batch_size: int = 8
    device: str | None = None
    samples: int = 16
    temperature: float = 1.0
    seed: int = 0
    answer_format: str | None = None
    resize: int | None = None
    crop: int | None = None
    trust_remote_code: bool = False
    structured: bool = False
    max_new_tokens: int | None = None
    head: str | None = None
    backend: str = "transformers"
    backend_options: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def among(cls, parameters: Mapping[str, Any]) -> ScorerOptions:
        """Those of a command's parameters, its `locals()` at the start, that go by the names of these options."""
        return cls(**{each.name: parameters[each.name] for each in fields(cls) if each.name in parameters})

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

        from transformers.utils import logging

        from mriqa.scoring.scorer import Scorer

        logging.set_verbosity_error()
        logging.disable_progress_bar()
        scorer = Scorer.from_pretrained(
            self.model,
            self.readout,
            device=self.device,
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
