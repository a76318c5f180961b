"""`mriqa score`: images to a table of scores."""

from __future__ import annotations

import json
import math
import re
import sys
import tempfile
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from mriqa.cli.exits import plain_errors, say, terminated_in_order, told_when_stopped
from mriqa.cli.options import BackendName, Overwrite, ScorerOptions, takes_scorer
from mriqa.cli.threshold import Threshold
from mriqa.scoring.backend_table import BACKENDS, DEFAULT_BACKEND

if TYPE_CHECKING:
    from mriqa.scoring.jobs.map_folder import MapFolder
    from mriqa.scoring.jobs.runner import Engine, Outcome
    from mriqa.scoring.scorer import Score

SHARD_SIZE, BATCHES_PER_SHARD = 64, 4


@takes_scorer
def score(
    *,
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE",
            help="Images, folders, quoted patterns, manifests (.jsonl, .json, .csv, .parquet), tar shards, Parquet "
            "files with image bytes, and with --allow-urls URLs.",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="File to write: .jsonl, .csv or .parquet. Resumes where it was stopped."),
    ] = None,
    scorer: ScorerOptions,
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Images that go through the model together. Default: 8, elsewhere 64.")
    ] = None,
    overwrite: Overwrite = False,
    maps: Annotated[
        Path | None,
        typer.Option(
            "--map",
            metavar="FOLDER",
            help="Also show where each picture is bad: a map of its quality as PNG, and its values as .npy, in this "
            "folder. Costs up to 64 more scores a picture.",
        ),
    ] = None,
    fail_under: Annotated[
        float | None,
        typer.Option(
            metavar="SCORE", help="End with exit code 1 where an image scores below this, as a check before a commit."
        ),
    ] = None,
    text: Annotated[bool, typer.Option("--text", help="Also write the model's answers (columns text, texts).")] = False,
    allow_urls: Annotated[bool, typer.Option("--allow-urls", help="Fetch images that are given as URLs.")] = False,
    shard: Annotated[
        str | None,
        typer.Option(
            metavar="I/N",
            help="Score only part I of N, for a scheduler's array of N jobs. The last to end writes FILE.",
        ),
    ] = None,
    shard_size: Annotated[
        int | None, typer.Option(min=1, help="Images that are written together, and lost together by a kill.")
    ] = None,
    head: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Head saved with the model for a second opinion, such as conord: head_score."
        ),
    ] = None,
    backend: Annotated[
        BackendName,
        typer.Option(help="Where the model runs: here by transformers or vLLM, or on an OpenAI-compatible server."),
    ] = DEFAULT_BACKEND,
    server: Annotated[
        str, typer.Option(metavar="URL", help="Address of the server up to /v1. Its key: OPENAI_API_KEY.")
    ] = "http://127.0.0.1:8000/v1",
    concurrency: Annotated[int, typer.Option(min=1, help="Requests to the server at a time.")] = 16,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds that a request to the server may take.")] = 120.0,
    retries: Annotated[int, typer.Option(min=0, help="How often such a request is tried again.")] = 6,
    tensor_parallel: Annotated[int, typer.Option(min=1, help="Accelerators that share the model in vLLM.")] = 1,
    structured: Annotated[
        bool,
        typer.Option(help="Hold generated answers to the grammar, so that all parse. Servers but vLLM's may refuse."),
    ] = True,
    max_new_tokens: Annotated[
        int | None, typer.Option(min=1, help="Of a generated answer. Default: enough for the answer format.")
    ] = None,
    engine: Annotated[
        Literal["local", "ray"], typer.Option(help="Score in this process, or by Ray Data on a cluster, with --out.")
    ] = "local",
    ray_address: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            envvar="RAY_ADDRESS",
            help="Of a running Ray cluster that this machine belongs to, or auto. Default: one is started here.",
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Copies of the model on the Ray cluster. Default: one an accelerator, or a machine."),
    ] = None,
) -> None:
    """Score images from 1 (bad) to 5 (excellent).

    One row per image: image, score, std (spread of the score), error, n_parsed (answers that parsed); of a calibrated
    model also low and high, between which people's score is with 80 %. Without --out the rows go to the terminal as a
    table, or to a pipe as JSON Lines. With it, the same command goes on after a stop of any kind, and any number of
    them may work on one FILE at once.

    [b]Examples[/b]

      mriqa score photo.jpg

      mriqa score photo.jpg --map maps

      mriqa score holiday/ "scans/**/*.tif" -m outputs/demo/model -o scores.csv

      mriqa score site/pictures --fail-under 3.0

      mriqa score "shards/*.tar" -m Qwen/Qwen3-VL-2B-Instruct --backend vllm --readout sample -o scores.parquet

      mriqa score /shared/photos -m Qwen/Qwen3-VL-2B-Instruct --engine ray --ray-address auto -o scores.parquet

    Exit code: 0 all images scored; 1 some have an error row, or a score below --fail-under; 2 nothing could be done,
    or not all of it.
    """
    entry = BACKENDS[backend]
    for_backends = {
        "tensor_parallel": tensor_parallel,
        "url": server,
        "concurrency": concurrency,
        "timeout": timeout,
        "retries": retries,
    }
    options = replace(
        scorer,
        batch_size=batch_size or entry.batch_size,
        structured=structured,
        max_new_tokens=max_new_tokens,
        head=head,
        backend=backend,
        backend_options={name: value for name, value in for_backends.items() if name in entry.options},
    )
    part, threshold = _part(shard), Threshold(fail_under)
    if engine == "local" and workers is not None:
        raise typer.BadParameter("--workers goes with --engine ray; without it, start the command several times.")
    if engine == "ray" and out is None:
        raise typer.BadParameter("--engine ray needs a file to write: --out scores.parquet.")
    if engine == "ray" and maps is not None:
        raise typer.BadParameter("--map goes with --engine local; several of its workers may share one FOLDER.")
    with plain_errors():
        folder = None if maps is None else _map_folder(maps, options, overwrite)
        if out is None:
            _to_terminal(sources, allow_urls, options, folder, threshold)
            return
        from mriqa.scoring.jobs.runner import InProcess, Job, was_just_finished

        if was_just_finished(out):
            say(f"Wrote {out}.")
            threshold.see_table(out)
            threshold.enforce()
            return
        size = shard_size or max(SHARD_SIZE, BATCHES_PER_SHARD * options.batch_size)
        settings = {**options.settings, "text": text, "map": None if maps is None else str(maps)}
        job = Job.open(out, sources, settings, overwrite=overwrite, allow_urls=allow_urls, shard_size=size)
        stopped = f"Stopped. The same command goes on with what {out} lacks."
        # Closing gives up the shard in work, so that nobody waits for it.
        with told_when_stopped(stopped), closing(job), terminated_in_order():
            if engine == "ray":
                outcome = job.run_on(_ray_engine(options, ray_address, workers, tensor_parallel), part)
            else:
                outcome = job.run_on(InProcess(options.load(), folder), part)
        if outcome.complete:
            threshold.see_table(out)
    _report(outcome, out, threshold)


def _map_folder(folder: Path, options: ScorerOptions, overwrite: bool) -> MapFolder:
    from mriqa.scoring.jobs.map_folder import MapFolder

    return MapFolder(folder, options.settings, overwrite)


def _ray_engine(options: ScorerOptions, address: str | None, workers: int | None, accelerators: int) -> Engine:
    """Ray's own vLLM processor where that can do it, scorers in Ray's workers elsewhere."""
    from mriqa.scoring.ray.cluster import RayCluster
    from mriqa.scoring.ray.engine import RayScorers
    from mriqa.scoring.ray.vllm_engine import RayVLLM

    options.load_format()  # so that a wrong one ends this command, not its workers
    answer_format = _absolute(options.answer_format) if options.answer_format else None
    there = replace(options, model=_absolute(options.model), answer_format=answer_format)
    on_processors = options.device == "cpu" or not BACKENDS[options.backend].holds_model
    cluster = RayCluster(address, workers, 0 if on_processors else accelerators)
    if options.backend == "vllm" and options.readout != "sample":
        describing = replace(there, backend_options={**there.backend_options, "start": False})
        return RayVLLM(describing.load(), cluster)
    return RayScorers(there.load, cluster)


def _absolute(name: str) -> str:
    """A path that means the same in workers, which may start elsewhere; names of other things stay as they are."""
    path = Path(name).expanduser()
    return str(path.absolute()) if path.exists() else name


def _to_terminal(
    sources: list[str], allow_urls: bool, options: ScorerOptions, maps: MapFolder | None, threshold: Threshold
) -> None:
    """Rows as a table, or as JSON Lines where stdout is no terminal."""
    from mriqa.progress import with_progress
    from mriqa.scoring.jobs.batch import columns_of, score_items, to_row
    from mriqa.scoring.jobs.image_list import ImageList

    with (
        tempfile.TemporaryDirectory(prefix="mriqa-") as folder,
        closing(ImageList.build(Path(folder) / "images.sqlite", sources, allow_urls=allow_urls)) as images,
    ):
        loaded = options.load()
        scored = score_items(loaded, images)
        mapped = ((score, None) for score in scored) if maps is None else maps.rows(loaded, images, scored)
        head, interval, on_terminal = options.head is not None, loaded.calibration is not None, sys.stdout.isatty()
        names = columns_of(head=head, interval=interval, maps=maps is not None)
        scores, failures, drawn = [], [], False
        for one, name in with_progress(mapped, total=len(images)):
            threshold.see(one.image, one.score)
            failures += [(one.image, one.error)] if one.error else []
            drawn = drawn or bool(name)
            if on_terminal:
                scores.append(one)
                continue
            row = to_row(one) | {"map": name}
            print(json.dumps({name: row[name] for name in names}), flush=True)
        if on_terminal:
            _print_scores(scores, head, interval)
            if maps is not None and drawn:
                say(f"The maps are in {maps.folder}.")
    if failures:
        _exit_with_failures(len(failures), len(images), *failures[0])
    threshold.enforce()


def _report(outcome: Outcome, out: Path, threshold: Threshold) -> None:
    if not outcome.complete:
        say(
            f"{outcome.n_done} of {outcome.n_images} images are scored; {out} comes when the other parts are done, too."
        )
        return
    say(f"Wrote {out}.")
    if outcome.first_failure is not None:
        _exit_with_failures(outcome.n_failed, outcome.n_images, *outcome.first_failure)
    threshold.enforce()


def _exit_with_failures(n_failed: int, n_images: int, image: str, error: str | None) -> None:
    say(f"{n_failed} of {n_images} images have no score; the first: {image}: {error}")
    raise typer.Exit(1)


def _part(shard: str | None) -> tuple[int, int]:
    """ "2/8" as (2, 8), "8/8" as (0, 8)."""
    if shard is None:
        return 0, 1
    match = re.fullmatch(r"([0-9]+)/([0-9]+)", shard)
    if match is None or int(match[2]) == 0 or int(match[1]) > int(match[2]):
        raise typer.BadParameter(f"--shard is I/N with I from 1 (or 0) to N, not {shard!r}.")
    return int(match[1]) % int(match[2]), int(match[2])  # so that schedulers may count from 0 or from 1


def _print_scores(scores: list[Score], head: bool, interval: bool) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    names = ["score", "std", "head_score"] if head else ["score", "std"]
    table = Table("image", *names, *(["80 % interval"] if interval else []), "error")
    for score in scores:
        numbers = (getattr(score, name) for name in names)
        cells = ["–" if number is None or math.isnan(number) else f"{number:.2f}" for number in numbers]
        if interval:
            cells.append("{:.1f}–{:.1f}".format(*score.interval) if score.interval else "–")
        table.add_row(Text(score.image), *cells, Text(score.error or "", style="red"))
    Console().print(table)
