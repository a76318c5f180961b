"""How fast images are scored: in batches, beside one by one with `generate`; and whether memory stays flat.

    python benchmarks/scoring.py                    # some minutes; 100,000 rows
    python benchmarks/scoring.py --quick            # 3,000 rows
    python benchmarks/scoring.py --json scoring.json

The baseline is what published evaluation scripts do: each image alone through the processor and `model.generate`. The
model is the random tiny Qwen3-VL in float32, which never ends an answer by itself, so `generate` is held to exactly as
many tokens as `<answer>3.52</answer>` and its end have. Ours is the `Scorer` by the readouts "expected" (one pass, all
scores) and "greedy". Costs are seconds of processor time per image in one thread, reading the file included; images/s
are in the settings. Where vLLM is installed, its engine scores the same images, by the clock, as it runs in processes
of its own.

The model inside the package scores photographs of 512 x 512 pixels, JPEG files, as `mriqa score` does, with as many
threads as there are cores; by the clock, which only means something on a machine with nothing else to do.

Memory is the peak of a whole process, once over 1,000 rows and once over 100,000, by the batch runner. There a stand-in
takes the model's place (a model's memory doesn't depend on the rows), and the pictures are small, in a Parquet file.
"""

from __future__ import annotations

import importlib.util
import io
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from timing import Claim, in_turn, machine, parser, write

ONE_BY_ONE = "one by one with generate"
BATCH = 32


def write_images(folder: Path, count: int, side: int = 256) -> list[Path]:
    """JPEG files of smooth noise, as large as photographs for the web are."""
    import numpy as np
    from PIL import Image

    draw = np.random.default_rng(0)
    paths = []
    for number in range(count):
        coarse = Image.fromarray(draw.integers(0, 256, (8, 8, 3), dtype=np.uint8))
        paths.append(folder / f"{number}.jpg")
        coarse.resize((side, side), Image.Resampling.BICUBIC).save(paths[-1], quality=90)
    return paths


def one_by_one(model: Any, processor: Any, paths: Sequence[Path]) -> list[str]:
    """Each image alone: processor, generate, text."""
    import torch
    from PIL import Image

    from mriqa.answers import load_format
    from mriqa.scoring.prompts import conversation

    answer_format = load_format("non_thinking")
    length = len(processor.tokenizer(answer_format.format(3.52))["input_ids"]) + 1
    texts = []
    for path in paths:
        messages = conversation(answer_format, Image.open(path).convert("RGB"))
        inputs = processor.apply_chat_template(
            messages, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
        )
        with torch.inference_mode():
            ids = model.generate(**inputs, do_sample=False, min_new_tokens=length, max_new_tokens=length)
        texts.append(processor.batch_decode(ids[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)[0])
    return texts


def seconds_per_image(work: Callable[[], Any], count: int, clock: Callable[[], float]) -> list[float]:
    started = clock()
    work()
    return [(clock() - started) / count]


def speed(folder: Path, quick: bool) -> list[Claim]:
    """The readouts in batches, and vLLM where it is, beside one by one."""
    from mriqa import Scorer
    from mriqa.embedded import build_tiny_qwen3_vl
    from mriqa.models import load_vlm

    count, few, rounds = (64, 16, 2) if quick else (256, 64, 3)
    model_path = build_tiny_qwen3_vl(folder / "model")
    model, processor = load_vlm(model_path, device="cpu")
    paths = write_images(folder, count)
    one_by_one(model, processor, paths[:4])
    claims = []
    for readout in ("expected", "greedy"):
        scorer = Scorer(model, processor, readout=readout, batch_size=BATCH, structured=True)
        scorer.score(paths[:BATCH])
        own, other = in_turn(
            lambda scorer=scorer: seconds_per_image(lambda: scorer.score(paths), count, time.process_time),
            lambda: seconds_per_image(lambda: one_by_one(model, processor, paths[:few]), few, time.process_time),
            rounds,
        )
        settings = {"batch_size": BATCH, "images": count, "images_per_s": 1 / own, "baseline_images_per_s": 1 / other}
        claims.append(Claim(f"scoring/{readout}", own, other, ONE_BY_ONE, "s/image", {**settings, **machine()}))
    if importlib.util.find_spec("vllm"):
        claims.append(vllm_speed(model_path, model, processor, paths, few, rounds))
    else:
        print("scoring/vllm is left out: vLLM is not installed here.")
    return claims


def vllm_speed(model_path: Path, model: Any, processor: Any, paths: Sequence[Path], few: int, rounds: int) -> Claim:
    from mriqa import Scorer

    options = {"enforce_eager": True, "max_model_len": 1024}
    scorer = Scorer.from_pretrained(
        model_path, "greedy", backend="vllm", dtype="float32", backend_options=options, batch_size=len(paths)
    )
    scorer.score(paths)
    own, other = in_turn(
        lambda: seconds_per_image(lambda: scorer.score(paths), len(paths), time.perf_counter),
        lambda: seconds_per_image(lambda: one_by_one(model, processor, paths[:few]), few, time.perf_counter),
        rounds,
    )
    settings = {"images": len(paths), "images_per_s": 1 / own, "baseline_images_per_s": 1 / other, "clock": "wall"}
    return Claim("scoring/vllm", own, other, ONE_BY_ONE, "s/image", {**settings, **machine()})


def default_speed(folder: Path, quick: bool) -> Claim:
    """The model inside the package on photographs, beside one by one with the same model."""
    import os

    import torch
    from PIL import Image

    from mriqa import Scorer
    from mriqa.embedded.contents import wheel_photographs
    from mriqa.embedded.packaged import default_model_folder
    from mriqa.models import load_vlm

    paths = []
    for content in wheel_photographs():
        paths.append(folder / f"{content.name}-512.jpg")
        content.pristine(512).resize((512, 512), Image.Resampling.LANCZOS).save(paths[-1], quality=90)
    paths = paths * (2 if quick else 10)
    few = len(paths) // (2 if quick else 10)
    model, processor = load_vlm(default_model_folder(), device="cpu")
    scorer = Scorer.from_pretrained(device="cpu")
    torch.set_num_threads(os.cpu_count() or 1)
    scorer.score(paths[:8])
    own, other = in_turn(
        lambda: seconds_per_image(lambda: scorer.score(paths), len(paths), time.perf_counter),
        lambda: seconds_per_image(lambda: one_by_one(model, processor, paths[:few]), few, time.perf_counter),
        2 if quick else 5,
    )
    torch.set_num_threads(1)
    rates = {"images_per_s": 1 / own, "baseline_images_per_s": 1 / other}
    settings = {**machine(), "images": len(paths), "threads": os.cpu_count(), "clock": "wall", **rates}
    return Claim("scoring/model in the package, 512 x 512", own, other, ONE_BY_ONE, "s/image", settings)


def memory(folder: Path, rows: int) -> Claim:
    """The peak of a process that scores `rows` rows, beside one that scores 1,000."""
    import numpy as np
    import pyarrow
    import pyarrow.parquet
    from PIL import Image

    peaks = {}
    for count in (1000, rows):
        path = folder / f"{count}.parquet"
        schema = pyarrow.schema([("image", pyarrow.binary())])
        draw = np.random.default_rng(0)
        with pyarrow.parquet.ParquetWriter(path, schema) as file:
            for _ in range(count // 1000):
                column = []
                for _ in range(1000):
                    buffer = io.BytesIO()
                    Image.fromarray(draw.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(buffer, "PNG")
                    column.append(buffer.getvalue())
                file.write_table(pyarrow.table({"image": column}, schema))
        command = [sys.executable, __file__, "--rows-of", str(path)]
        run = subprocess.run(command, capture_output=True, text=True, check=True)
        peaks[count] = json.loads(run.stdout.splitlines()[-1])
    settings = {"rows": rows, "rows_per_s": rows / peaks[rows]["seconds"], "model": "a stand-in", **machine()}
    return Claim("memory/batch runner", peaks[rows]["mib"], peaks[1000]["mib"], "1,000 rows", "MiB", settings)


def score_rows(path: Path) -> None:
    """Score a Parquet file by a stand-in for a model, and print the peak memory of this process."""
    import numpy as np

    from mriqa import Scorer
    from mriqa.scoring.jobs.runner import Job
    from mriqa.scoring.reading import Reading

    class StandIn:
        readout_name = "greedy"

        def read(self, pictures: Sequence[Any], seed: int) -> list[Reading | str]:
            return [Reading(np.array([3.0]), np.ones(1), exact=False, texts=("",)) for _ in pictures]

    started = time.process_time()
    job = Job.open(path.with_suffix(".scores.parquet"), [path], {})
    outcome = job.run(Scorer(None, None, backend=StandIn()))
    assert outcome.complete and outcome.n_failed == 0
    print(json.dumps({"mib": peak_mib(), "seconds": time.process_time() - started}))


def peak_mib() -> float:
    """The peak memory of this process. Not getrusage's, which has that of the process that started this one in it."""
    status = Path("/proc/self/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 1024


def main(argv: Sequence[str] | None = None) -> int:
    """Command line entry."""
    options = parser(__doc__)
    options.add_argument("--rows-of", type=Path, metavar="FILE", help="only score the rows of a Parquet file once")
    arguments = options.parse_args(argv)
    if arguments.rows_of is not None:
        score_rows(arguments.rows_of)
        return 0

    import torch

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="mriqa-") as folder:
        claims = speed(Path(folder), arguments.quick)
        claims.append(default_speed(Path(folder), arguments.quick))
        claims.append(memory(Path(folder), 3000 if arguments.quick else 100_000))
    write(claims, arguments.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
