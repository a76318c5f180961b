"""Labels that know the content: what people would say, read from how far a picture is from its original.

Extra trees (Geurts et al., 2006) map the full-reference measures and plain changes of a picture (`full_reference`,
`changes`) to KADID-10k's mean scores. They are fitted on the training contents' single labelled distortions, whose
level means KADID-10k publishes, on their pristine pictures and on anchors (`anchors`). Labels of pictures that the map
was fitted on come from maps that were fitted without that content.

A labelled distortion's label is the mean of its level's score, which knows the damage, and of the map's, which knows
the content. A pristine picture has the score of what can't be seen; all others have the map's.

Legend: N pictures, F measures of each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mriqa.broad.anchors import INVISIBLE, WORST
from mriqa.broad.damage_table import DAMAGES
from mriqa.broad.damages.engine import engine_severity
from mriqa.broad.pictures import PRISTINE
from mriqa.distortions import LABELLED, mean_mos, rater_std
from mriqa.distortions.levels import level_tables

TREES, SMALLEST_LEAF, FOLDS = 400, 2, 8
DATASET = "broad"
KEPT = ("content", "id", "damage", "kind", "severity", "measures", "rated_mos", "mapped_mos")


def label(rows: Mapping[str, list[dict[str, Any]]], fixed: Sequence[dict[str, Any]], seed: int) -> dict[str, Any]:
    """Turn what was made into manifest rows, in place, and return how good the labels are.

    Arguments:
        rows: by split, what `make_picture` returned; `mos`, `std`, `rated_mos` and `mapped_mos` come.
        fixed: the anchors of the training contents.
        seed: of the trees.

    Returns:
        The report of labels.json: the map's accuracy on the contents of validation and test, and labels by damage.
    """
    for each in (row for split in rows.values() for row in split):
        each["rated_mos"] = rated_mos(each["damage"], each["severity"])
    _map_scores(rows, fixed, seed)
    accuracy = {split: _accuracy([row for row in rows[split] if _is_labelled(row)]) for split in ("val", "test")}
    std_of = deviation_curve()
    for split in rows.values():
        for place, row in enumerate(split):
            split[place] = _manifest_row(row, std_of)
    return {
        "fitted_on": sum(row["rated_mos"] is not None for row in rows["train"]) + len(fixed),
        "accuracy_on_unseen_contents": accuracy,
        "labels": _by_damage([row for split in rows.values() for row in split]),
    }


def rated_mos(damage: str, severity: float) -> float | None:
    """KADID-10k's mean score of a damage at a severity; None where nobody was asked."""
    if damage == PRISTINE:
        return INVISIBLE
    name = DAMAGES[damage].rated
    return float(mean_mos(name, engine_severity(name, severity))) if name else None


def deviation_curve() -> np.poly1d:
    """Raters' standard deviation as a function of their mean score: a cubic through KADID-10k's labelled levels."""
    tables = [level_tables()[name].ratings for name in LABELLED]
    means, deviations = (np.concatenate([getattr(t, key) for t in tables]) for key in ("mean_mos", "rater_std"))
    return np.poly1d(np.polyfit(means, deviations, 3))


def _is_labelled(row: dict[str, Any]) -> bool:
    return row["rated_mos"] is not None and row["damage"] != PRISTINE


def _map_scores(rows: Mapping[str, list[dict[str, Any]]], fixed: Sequence[dict[str, Any]], seed: int) -> None:
    """Give each row its `mapped_mos`."""
    from sklearn.ensemble import ExtraTreesRegressor
    from sklearn.model_selection import GroupKFold, cross_val_predict

    known = [row for row in rows["train"] if row["rated_mos"] is not None]
    others = [row for split in rows.values() for row in split if row["rated_mos"] is None or split is not rows["train"]]
    known_NF, anchors_NF = _measures(known), _measures(fixed)
    scores_N = np.array([row["rated_mos"] for row in known] + [anchor["mos"] for anchor in fixed])
    trees = ExtraTreesRegressor(TREES, min_samples_leaf=SMALLEST_LEAF, max_features=0.5, random_state=seed)
    contents = [row["content"] for row in known]
    groups = np.unique(contents + [anchor["content"] for anchor in fixed], return_inverse=True)[1]
    folds = GroupKFold(min(FOLDS, len(set(contents))))
    everything_NF = np.concatenate([known_NF, anchors_NF])
    out_of_fold_N = cross_val_predict(trees, everything_NF, scores_N, groups=groups, cv=folds)
    for row, score in zip(known, out_of_fold_N):
        row["mapped_mos"] = float(score)
    for row, score in zip(others, trees.fit(everything_NF, scores_N).predict(_measures(others))):
        row["mapped_mos"] = float(score)


def _measures(rows: Sequence[dict[str, Any]]) -> np.ndarray:
    return np.array([row["measures"] for row in rows])


def _manifest_row(row: dict[str, Any], std_of: np.poly1d) -> dict[str, Any]:
    mos, std = row["mapped_mos"], None
    if row["damage"] == PRISTINE:
        mos = INVISIBLE
    elif row["rated_mos"] is not None:
        name = DAMAGES[row["damage"]].rated
        assert name is not None, "somebody was asked"
        mos = (row["rated_mos"] + row["mapped_mos"]) / 2
        std = (float(rater_std(name, engine_severity(name, row["severity"]))) + float(std_of(row["mapped_mos"]))) / 2
    return {
        "image": row["image"],
        "mos": round(float(np.clip(mos, WORST, 5)), 4),
        "std": round(float(std_of(mos)) if std is None else std, 4),
        "dataset": DATASET,
        **{key: row[key] for key in KEPT},
    }


def _accuracy(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    from scipy.stats import pearsonr, spearmanr

    if len(rows) < 2:
        return {"n": len(rows)}
    rated_N, mapped_N = (np.array([row[key] for row in rows]) for key in ("rated_mos", "mapped_mos"))
    return {
        "n": len(rows),
        "srcc": round(float(spearmanr(rated_N, mapped_N)[0]), 4),
        "plcc": round(float(pearsonr(rated_N, mapped_N)[0]), 4),
        "mae": round(float(np.abs(rated_N - mapped_N).mean()), 4),
    }


def _by_damage(rows: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """For each damage: its kind, how many pictures, mean labels of the mildest, middle and strongest fifth."""
    table = {}
    for name in sorted({row["damage"] for row in rows}):
        ours = [row for row in rows if row["damage"] == name]
        means = {}
        for part, low, high in (("mildest", 0.0, 0.2), ("middle", 0.4, 0.6), ("strongest", 0.8, 1.0)):
            labels = [row["mos"] for row in ours if low <= row["severity"] <= high]
            means[part] = round(float(np.mean(labels)), 3) if labels else None
        table[name] = {"kind": ours[0]["kind"], "n": len(ours), **means}
    return table
