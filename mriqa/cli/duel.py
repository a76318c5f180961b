"""`mriqa gmad`: two scorers against each other on pictures that nobody has rated."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mriqa.cli.evaluate_protocol import Models
from mriqa.cli.exits import plain_errors, say
from mriqa.cli.options import Overwrite, ScorerOptions, takes_scorer

if TYPE_CHECKING:
    from mriqa.scoring.scorer import Scorer


@takes_scorer
def gmad(
    *,
    sources: Annotated[list[str], typer.Argument(help="The pool: pictures, folders or patterns.")],
    models: Models,
    out: Annotated[Path, typer.Option("--out", "-o", help="The page to write, e.g. gmad.html.")],
    bins: Annotated[int, typer.Option(min=2, help="Bins of equal count by the defender.")] = 10,
    pairs: Annotated[int, typer.Option(min=1, help="Pairs to show of each bin.")] = 1,
    scorer: ScorerOptions,
    overwrite: Overwrite = False,
) -> None:
    """Show pictures that one scorer calls equal and the other as different as can be (gMAD), each defending once.

    The duel of Ma et al. (TPAMI 2020), as SHAMISA's Fig. 2 and Table VII have it (arXiv 2603.13669): ten bins of equal
    count by the defender, and the attacker's largest gap in the lowest and in the highest.

    [b]Examples[/b]

      mriqa gmad waterloo/ --model outputs/a/model --model brisque --out gmad.html

      mriqa gmad waterloo/ --model A=shamisa:outputs/a/model --model B=shamisa:outputs/b/model --out gmad.html
    """
    from mriqa.eval.gmad import gmad_page
    from mriqa.eval.predictors import open_predictors
    from mriqa.files import write_text
    from mriqa.images import load_image
    from mriqa.manifest import RatedImage
    from mriqa.progress import with_progress
    from mriqa.scoring.jobs.sources import find_files
    from mriqa.scoring.jobs.tables import check_output

    if len(models) != 2:
        raise typer.BadParameter("gMAD sets two scorers against each other: give --model twice.")

    def load_scorer(model: str, readout: str | None) -> Scorer:
        return replace(scorer, model=model, readout=readout or scorer.readout).load()

    with plain_errors():
        check_output(out, overwrite, (".html",))
        files = sorted({Path(file).resolve() for source in sources for file in find_files(source)})
        rows = [RatedImage(file, math.nan, None, "pool", str(file), str(file)) for file in files]
        scores = {}
        for predictor in open_predictors(models, load_scorer):
            stream = with_progress(predictor.predict(rows, lambda row: load_image(row.image)), total=len(rows))
            scores[predictor.name] = [prediction.score for prediction in stream]
        kept = [k for k in range(len(rows)) if all(math.isfinite(each[k]) for each in scores.values())]
        if len(kept) < len(rows):
            say(f"{len(rows) - len(kept)} of {len(rows)} pictures are left out: not both models gave them a score.")
        page = gmad_page(
            tuple(scores), {name: [each[k] for k in kept] for name, each in scores.items()}, [files[k] for k in kept],
            bins=bins, pairs=pairs,
        )  # fmt: skip
        write_text(page, out)
    say(f"Wrote {out}.")
