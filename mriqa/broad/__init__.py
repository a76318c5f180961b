"""The broad data set: photographs spoiled in some sixty ways, with labels that know the content.

| piece                                                    | where                                        |
|----------------------------------------------------------|----------------------------------------------|
| what a damage is, all of them by name and kind           | damage.py, damage_table.py, damages/         |
| which pictures there are, one picture                    | pictures.py                                  |
| how far a picture is from its original                   | full_reference.py, changes.py                |
| the map from there to people's scores, and labels        | labels.py, anchors.py                        |
| the set on disk                                          | broad_set.py                                 |
"""

from __future__ import annotations

from mriqa.lazy import lazily

_EXPORTS = {
    "BroadSettings": "broad_set",
    "DAMAGES": "damage_table",
    "KINDS": "damage_table",
    "build_broad_set": "broad_set",
    "read_details": "broad_set",
}
__all__ = sorted(_EXPORTS)
__getattr__ = lazily(__name__, _EXPORTS)
