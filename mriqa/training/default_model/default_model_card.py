"""What the packaged model is measured to be good and bad at, and its card.

Everything is measured on test contents, which neither training nor the choice among candidates has seen.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
from PIL import Image

from mriqa.broad.broad_set import BroadSettings, read_details, split_contents
from mriqa.broad.damage_table import DAMAGES, LABELLED_DAMAGES
from mriqa.broad.labels import rated_mos
from mriqa.broad.pictures import PRISTINE, Picture, spoil
from mriqa.embedded.contents import Content
from mriqa.eval.evaluation import evaluate_scores
from mriqa.eval.metrics import srcc
from mriqa.eval.report import markdown_table
from mriqa.manifest import read_manifest
from mriqa.manifest.formats import read_records
from mriqa.scoring import Scorer

OF_EACH = 40  # pictures of each labelled distortion
TOGETHER, WITH_ORIGINAL = "all together", "srcc with the original"


@dataclass(frozen=True)
class Judged:
    """Pictures that were scored: what was done to each, its label, and the model's score."""

    names: list[str]
    labels: np.ndarray
    scores: np.ndarray

    def by_name(self) -> dict[str, dict[str, Any]]:
        """Agreement for each name, best first, and over all."""
        names_N = np.array(self.names)
        found = {
            name: evaluate_scores(self.scores[names_N == name], self.labels[names_N == name])
            for name in dict.fromkeys(self.names)
        }
        together = {TOGETHER: evaluate_scores(self.scores, self.labels)}
        return together | dict(sorted(found.items(), key=lambda one: -one[1]["srcc"]))


def judge_labelled(scorer: Scorer, settings: BroadSettings) -> Judged:
    """KADID-10k's 21 labelled distortions on photographs of the test contents; labels are the levels' mean scores."""
    contents = [content for content in split_contents(settings)["test"] if content.kind == "photograph"]
    names, labels, scores = [], [], []
    for content in contents:
        pictures = _of_content(content, contents)
        scene = content.pristine(settings.size)
        spoiled = [spoil(picture, scene, settings.size, settings.seed)[1] for picture in pictures]
        scores += [score.score for score in scorer.score([Image.fromarray(pixels) for pixels in spoiled])]
        names += [picture.name for picture in pictures]
        labels += [rated_mos(picture.name, picture.severity) for picture in pictures]
    return Judged(names, np.array(labels, dtype=float), np.array(scores))


def _of_content(content: Content, contents: Sequence[Content]) -> list[Picture]:
    """What is done to one content: its part of `OF_EACH` pictures of every labelled distortion."""
    rng = np.random.default_rng(zlib.crc32(content.name.encode()))
    each = -(-OF_EACH // len(contents))
    damages = [damage for damage in LABELLED_DAMAGES if content.colourful or not damage.needs_colour]
    return [
        Picture(content, 100_000 + number * each + place, damage, float((place + rng.random()) / each))
        for number, damage in enumerate(damages)
        for place in range(each)
    ]


def judge_broad(scorer: Scorer, test_manifest: str | Path) -> Judged:
    """The test pictures of the broad set, by kind of damage."""
    details, rows = read_details(test_manifest), read_manifest(test_manifest, check_images=False)
    scores = scorer.score([row.image for row in rows], progress=True)
    kinds = [details[row.id].kind for row in rows]
    return Judged(kinds, np.array([row.mos for row in rows]), np.array([score.score for score in scores]))


def with_originals(
    labelled: Mapping[str, dict[str, Any]], manifests: Sequence[str | Path]
) -> dict[str, dict[str, Any]]:
    """The table of labelled distortions with a column for how well they can be ranked with the original at hand.

    That is what a model without the original is up against: the SRCC of the full-reference map (`mriqa.broad.labels`)
    with the levels' mean scores on the broad set's pictures of the same distortion, in manifests of contents that the
    map was not fitted on.
    """
    rows = [record.row for path in manifests for record in read_records(Path(path))]
    rated = [row for row in rows if row["rated_mos"] is not None and row["damage"] != PRISTINE]
    table = {}
    for name, measures in labelled.items():
        own = [row for row in rated if name in (row["damage"], TOGETHER)]
        mapped_N, rated_N = (np.array([row[key] for row in own]) for key in ("mapped_mos", "rated_mos"))
        table[name] = measures | {WITH_ORIGINAL: srcc(mapped_N, rated_N)}
    return table


def describe_candidates(choice: Mapping[str, Any]) -> str:
    """The table of candidates and what validation said of each."""
    rows = {
        name + (" (chosen)" if name == choice["chosen"] else ""): measures
        for name, measures in choice["candidates"].items()
    }
    return markdown_table(rows, ["all", "seen", "unseen"])


def describe_looks(file: Path | None) -> str:
    """What rated sets said of all that was looked at on them, by a JSON file of it; nothing without one."""
    if file is None:
        return ""
    found = json.loads(file.read_text(encoding="utf-8"))
    sets = list(dict.fromkeys(name for row in found.values() for name in row))
    table = markdown_table(found, sets)
    said = "All that was looked at on them, once each; what is in the package was chosen by validation. SRCC:"
    return f"{said}\n\n{table}"


def describe_stage(measures: Mapping[str, float]) -> str:
    """What validation said of a model, in a few words."""
    return f"SRCC {measures['all']:.3f} over all, {measures['seen']:.3f} and {measures['unseen']:.3f} by kind"


def fill_card(template: str | Path, found: Mapping[str, Any]) -> str:
    """The template of the card with what was measured in the places left for it."""
    return Template(Path(template).read_text(encoding="utf-8")).substitute(found)


def kinds_of(held_out: Sequence[str]) -> str:
    """The kinds that were held out, each with its damages, in a sentence."""
    parts = [f"{kind} ({', '.join(name for name, d in DAMAGES.items() if d.kind == kind)})" for kind in held_out]
    return "; ".join(parts)


def without_pristine(judged: Judged) -> Judged:
    """The same without pristine pictures, whose labels are all alike."""
    keep = [place for place, name in enumerate(judged.names) if name != PRISTINE]
    return Judged([judged.names[place] for place in keep], judged.labels[keep], judged.scores[keep])
