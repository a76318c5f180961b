"""PreSTA by definition: in every round, for every candidate, all correlations anew from the samples left."""

from __future__ import annotations

import numpy as np

TIE = 1e-14


def correlations(features, scores):
    """Pearson correlation of each column with the scores; 0 where either is constant."""
    features = features.astype(np.float64)
    if np.ptp(scores) == 0:
        return np.zeros(features.shape[1])
    deviations, dy = features - features.mean(axis=0), scores - scores.mean()
    varies = np.ptp(features, axis=0) > 0
    found = np.zeros(features.shape[1])
    covariance = (deviations[:, varies] * dy[:, None]).mean(axis=0)
    found[varies] = covariance / np.sqrt((deviations[:, varies] ** 2).mean(axis=0) * (dy**2).mean())
    return found


def cosine(a, b):
    norms = np.linalg.norm(a) * np.linalg.norm(b)
    return a @ b / norms if norms > 0 else 0.0


def presta_by_definition(features, scores, target, floor=0.2, stop=0.9, min_gain=1e-6, objective="cosine"):
    """Samples kept, samples removed in order, and the PPC before and after each removal."""

    def value(rows):
        found = correlations(features[rows], scores[rows])
        return cosine(found, target) if objective == "cosine" else -np.linalg.norm(found - target)

    def ppc(rows):
        return cosine(correlations(features[rows], scores[rows]), target)

    kept, removed = list(range(len(scores))), []
    course = [ppc(kept)]
    while len(kept) > 1 and len(kept) / len(scores) > floor and course[-1] < stop:
        values = np.array([value(kept[:place] + kept[place + 1 :]) for place in range(len(kept))])
        if values.max() - value(kept) <= min_gain:
            break
        removed.append(kept.pop(int(np.argmax(values >= values.max() - TIE))))
        course.append(ppc(kept))
    return kept, removed, np.array(course)
