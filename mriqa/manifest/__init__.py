"""Rated images: one row is one image with its mean opinion score. Read, check and write the files that list them.

    from mriqa.manifest import read_manifest
    rows = read_manifest("koniq.jsonl", scale="0:100")

`rated_images` says which keys are understood, `formats` which kinds of file, `scales` how scores become 1..5.
"""

from mriqa.manifest.formats import BadRow, ManifestError
from mriqa.manifest.rated_images import read_manifest, write_manifest
from mriqa.manifest.rows import RatedImage
from mriqa.manifest.scales import NAMED_SCALES, Scale, resolve_scale

__all__ = [
    "NAMED_SCALES",
    "BadRow",
    "ManifestError",
    "RatedImage",
    "Scale",
    "read_manifest",
    "resolve_scale",
    "write_manifest",
]
