"""How long selection takes: PreSTA beside a plain leave-one-out loop; Q-Diverse, k-center, herding at 100,000 samples.

Section 4 of PreSTA's supplement has the time that its selection takes for Tables 1 to 6, section D of Q-Diverse's the
cost that its Table 2 comes at.

    python benchmarks/selection.py                      # full size, about ten minutes, 3 GB
    python benchmarks/selection.py --quick              # small sets
    python benchmarks/selection.py --only presta        # or q_diverse, k_center, herding
    python benchmarks/selection.py --json selection.json

The baseline of PreSTA is the authors' leave-one-out formulas in numpy, all candidates of a round at once, moments
carried from round to round. Up to 1,000 samples both sides run whole, on small sets several times in turn. At full
size the baseline would take most of an hour, so three of its rounds run at each of nine stages of our run; the fastest
of the three, interpolated over the rounds between, makes its time, and all have to remove the samples that ours did.
Costs are seconds of processor time in one thread.

Legend: N samples, n of them kept, D feature width.
"""

from __future__ import annotations

import sys
import time
import tracemalloc
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits
from timing import Claim, in_turn, machine, parser, write

from mriqa.selection import Presta, load, ppr, presta, q_diverse

Array = npt.NDArray[Any]
LIMIT = 300.0  # seconds that a selection may take
STAGES, ROUNDS = 9, 3  # of the plain loop at full size
WHOLE = [(50, 16), (100, 64), (300, 128), (300, 1920), (1000, 64), (1000, 1920)]
SMALL, TURNS = 100_000, 7  # numbers in the features, up to which both sides run so many times in turn


def rated_set(n: int, width: int, seed: int = 0) -> tuple[Array, Array, Array]:
    """Features (N, D) like pooled activations and scores (N,), from 32 causes; and the PPR of a set that partly agrees.

    The target shows its causes and weighs them partly otherwise, so that PPC rises from about 0.54 to 0.75 on the way
    to a fifth. As with the paper's sets it doesn't reach 0.9 before.
    """
    rng = np.random.default_rng(seed)
    loadings, others = rng.normal(size=(2, 32, width))
    causes, other_causes = rng.normal(size=(2, 32))

    def draw(count: int, loadings: Array, causes: Array) -> tuple[Array, Array]:
        latent = rng.normal(size=(count, 32))
        activations = (latent @ loadings + 2 * rng.normal(size=(count, width))) / 3
        return np.log1p(np.exp(activations)).astype(np.float32), latent @ causes + rng.normal(size=count)

    target = draw(1000, 0.7 * loadings + 0.7 * others, 0.5 * causes + 0.5 * other_causes)
    return *draw(n, loadings, causes), ppr(*target)


def plain_loop(features_ND: Array, scores_N: Array, target_D: Array, rounds: int) -> tuple[list[int], list[float]]:
    """Samples that the leave-one-out formulas remove in so many rounds, and the seconds of each round."""
    f_nD, y_n, rows_n = features_ND.astype(np.float64), scores_N.astype(np.float64), np.arange(len(scores_N))
    mean_D, mean_y, var_D, var_y = f_nD.mean(axis=0), y_n.mean(), f_nD.var(axis=0), y_n.var()
    cov_D = ((f_nD - mean_D) * (y_n - mean_y)[:, None]).mean(axis=0)
    removed, taken = [], []
    for _ in range(rounds):
        started = time.process_time()
        n = len(rows_n)
        mean_nD, mean_yn = (n * mean_D - f_nD) / (n - 1), (n * mean_y - y_n) / (n - 1)
        var_nD = (n * var_D - (f_nD - mean_D) * (f_nD - mean_nD)) / (n - 1)
        var_yn = (n * var_y - (y_n - mean_y) * (y_n - mean_yn)) / (n - 1)
        cov_nD = (n * cov_D - (f_nD - mean_D) * (y_n - mean_yn)[:, None]) / (n - 1)
        r_nD = cov_nD / np.sqrt(var_nD * var_yn[:, None])
        ppc_n = r_nD @ target_D / (np.linalg.norm(r_nD, axis=1) * np.linalg.norm(target_D))
        best = int(np.argmax(ppc_n))
        removed.append(int(rows_n[best]))
        mean_D, mean_y, var_D, var_y, cov_D = (
            mean_nD[best], mean_yn[best], var_nD[best], var_yn[best], cov_nD[best],
        )  # fmt: skip
        f_nD[best], y_n[best], rows_n[best] = f_nD[-1], y_n[-1], rows_n[-1]  # the last takes its place
        f_nD, y_n, rows_n = f_nD[:-1], y_n[:-1], rows_n[:-1]
        taken.append(time.process_time() - started)
    return removed, taken


def measure_presta(n: int, width: int, share: float, whole: bool) -> Claim:
    """PreSTA until that share is kept; the baseline over all rounds, or at stages of ours."""
    features_ND, scores_N, target_D = rated_set(n, width)

    def ours_once() -> tuple[Presta, float]:
        started = time.process_time()
        found = presta(features_ND, scores_N, target_D, share, stop=2.0, min_gain=-np.inf)
        return found, time.process_time() - started

    wall = time.perf_counter()
    found, ours = ours_once()
    wall = time.perf_counter() - wall
    rounds = len(found.removed)
    turns = TURNS if whole and n * width <= SMALL else 1
    if whole:
        removed, taken = plain_loop(features_ND, scores_N, target_D, rounds)
        stages, baseline = [0], sum(taken)
        agrees = removed == found.removed.tolist()
        if turns > 1:
            ours, baseline = in_turn(
                lambda: [ours_once()[1]], lambda: [sum(plain_loop(features_ND, scores_N, target_D, rounds)[1])], turns
            )
    else:
        stages = np.linspace(0, rounds - ROUNDS, STAGES).astype(int).tolist()
        costs, agrees = [], True
        for stage in stages:
            kept = np.setdiff1d(np.arange(n), found.removed[:stage])
            removed, taken = plain_loop(features_ND[kept], scores_N[kept], target_D, ROUNDS)
            agrees &= kept[removed].tolist() == found.removed[stage : stage + ROUNDS].tolist()
            costs.append(min(taken))
            print(f"  plain round with {len(kept):,} kept: {costs[-1]:.3f} s", flush=True)
        baseline = float(np.interp(np.arange(rounds), stages, costs).sum())
    if not agrees:
        raise AssertionError("both sides must remove the same samples in the same order, but they differ")
    settings = {
        "N": n, "D": width, "share": share, "removed": rounds,
        "ppc": [float(found.ppc[0]), float(found.ppc[-1])], "wall_s": wall, "limit_s": LIMIT, "turns": turns,
        "same_removals": agrees,
        "baseline_measured": "whole" if whole else f"the fastest of {ROUNDS} rounds from each of {stages}", **machine(),
    }  # fmt: skip
    return Claim(f"presta/{n} x {width}", ours, baseline, "plain numpy leave-one-out loop", "s", settings)


def cost(work: Callable[[], Any]) -> tuple[float, float, float]:
    """Processor seconds, wall seconds, and peak MiB allocated while working."""
    tracemalloc.start()
    wall, started = time.perf_counter(), time.process_time()
    work()
    taken, wall = time.process_time() - started, time.perf_counter() - wall
    peak = tracemalloc.get_traced_memory()[1] / 2**20
    tracemalloc.stop()
    return taken, wall, peak


def measure_q_diverse(sizes: Sequence[int], width: int) -> list[Claim]:
    """Q-Diverse at 10 % for several N: time beside the limit, and time per sample beside that of the smallest N."""
    claims, first = [], 0.0
    for n in sizes:
        rng = np.random.default_rng(n)
        content, quality = (rng.normal(size=(n, width)).astype(np.float32) for _ in range(2))
        taken, wall, peak = cost(lambda: q_diverse(content, quality, 0.1))  # noqa: B023
        settings = {"N": n, "D": width, "share": 0.1, "batch": 1000, "landmarks": 600, "wall_s": wall, "peak_mib": peak,
                    "inputs_mib": 2 * content.nbytes / 2**20, **machine()}  # fmt: skip
        claims.append(Claim(f"q_diverse/{n} x {width}", taken, LIMIT, "the limit", "s", settings))
        first = first or taken / n
        claims.append(Claim(f"q_diverse linear in N/{n}", 1e3 * taken / n, 1e3 * first, f"N = {sizes[0]}",
                            "ms per sample", settings))  # fmt: skip
        print(claims[-2], flush=True)
    return claims


def measure_greedy(name: str, n: int, width: int) -> Claim:
    """Memory of k-center or herding at 10 %, beside a matrix of all distances; their time is among the settings."""
    features_ND = np.random.default_rng(n).normal(size=(n, width)).astype(np.float32)
    taken, wall, peak = cost(lambda: load(name)(features_ND, 0.1))
    settings = {"N": n, "D": width, "share": 0.1, "seconds": taken, "wall_s": wall,
                "inputs_mib": features_ND.nbytes / 2**20, **machine()}  # fmt: skip
    return Claim(f"memory of {name}/{n} x {width}", peak, 4 * n**2 / 2**20, "N × N float32", "MiB", settings)


def main(argv: Sequence[str] | None = None) -> int:
    """Command line entry."""
    options = parser(__doc__)
    options.add_argument("--only", nargs="+", choices=["presta", "q_diverse", "k_center", "herding"], metavar="NAME")
    arguments = options.parse_args(argv)
    wanted = arguments.only or ["presta", "q_diverse", "k_center", "herding"]
    quick, claims = arguments.quick, []
    with threadpool_limits(1):
        if "presta" in wanted:
            for n, width in [(100, 64), (300, 128)] if quick else WHOLE:
                claims.append(measure_presta(n, width, 0.2, whole=True))
                print(claims[-1], flush=True)
            claims.append(measure_presta(*((4000, 512, 0.9) if quick else (10_125, 1920, 0.2)), whole=False))
            print(claims[-1], flush=True)
        if "q_diverse" in wanted:
            claims += measure_q_diverse(*(([1000, 2000], 64) if quick else ([25_000, 50_000, 100_000], 512)))
        for name in ("k_center", "herding"):
            if name in wanted:
                claims.append(measure_greedy(name, *((3000, 64) if quick else (100_000, 512))))
                print(claims[-1], flush=True)
    write(claims, arguments.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
