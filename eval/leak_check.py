"""The audit of a protocol's data sets against what the models were trained on, before anything is scored."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mriqa.datasets.audit import find_leaks
from mriqa.datasets.listings import read_listing
from mriqa.errors import UserError

from .protocol_sets import LoadedSet

HELD_OUT = "test"


class LeakError(UserError, ValueError):
    """Training manifests that share pictures with what is measured on, as one sentence."""


def check_training_manifests(train: Sequence[Path], sets: Sequence[LoadedSet], leaks: str) -> dict[str, Any]:
    """What training manifests share with the data sets: refused, or counted for the record.

    Compared are files, bytes, names and contents; how pictures look takes minutes, and `mriqa audit` does it. Of a
    manifest whose rows name their part (`split`), the test part was not trained on.

    Arguments:
        train: manifests or lists of names that any of the models was trained on.
        leaks: "refuse" or "allow".

    Returns:
        {"train": their paths, "shared": {data set: how many pictures or contents}}

    Raises:
        LeakError: something is shared, and leaks is "refuse".
        AuditError, ManifestError: a manifest can't be read.
    """
    shared: dict[str, int] = {}
    for path in train:
        rows = [row for row in read_listing(path) if row.part != HELD_OUT]
        for loaded in sets:
            name = loaded.rated_set.name
            found = find_leaks({str(path): rows, name: loaded.rows}, look=False)
            if found and leaks != "allow":
                raise LeakError(
                    f"{path} and the data set {name} share {len(found)} pictures or contents (the first: {found[0]}), "
                    "so measures would show what was learnt by heart: measure on others, or say --leaks allow."
                )
            shared[name] = shared.get(name, 0) + len(found)
    return {"train": [str(path) for path in train], "shared": shared}
