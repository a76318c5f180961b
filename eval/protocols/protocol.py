"""A protocol: the data sets that models are measured on, and what is reported of them.

title: One line
about: What it is and where it comes from.
sets:                       # each is read from DATA/NAME.jsonl, as `mriqa data prepare NAME` writes it
  - name: koniq10k
    split: test             # only rows of this `split`; all where it is left out
    label: MOS              # the label column, for the record
  - name: lab
    manifest: lab.jsonl     # another file, from the protocol's folder
    image_root: lab/images  # where its pictures' paths start from, likewise; beside the manifest where it is left out
    scale: "0:100"          # where the rows don't declare theirs
trained_on: [koniq10k]      # for the record
splits: {count: 10, test: 0.2, seed: 0}    # medians over random parts that share no content
measures: [plcc, srcc]      # those that head the report, in this order
summary: mean               # over data sets: mean, or none
pixels: {size: 672}         # size: square; shorter_side: shrink to it; most: shrink to so many pixels
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import yaml

from mriqa.choices import check_choice
from mriqa.errors import UserError

from ..statistics.resampling import MEASURES

FOLDER = Path(__file__).parent
SUMMARIES = ("mean", "none")
PIXELS = ("size", "shorter_side", "most")
EMBEDDED = "embedded"
"""The data set that the package builds by itself."""


class ProtocolError(UserError, ValueError):
    """A protocol that is not there or not understood, as one sentence."""


@dataclass(frozen=True)
class RatedSet:
    """One data set of a protocol.

    `manifest` None is DATA/NAME.jsonl, `image_root` None what the caller says, `pixels` None the protocol's.
    """

    name: str
    manifest: str | None = None
    image_root: str | None = None
    split: str | None = None
    scale: str | None = None
    label: str | None = None
    pixels: Mapping[str, int] | None = None


@dataclass(frozen=True)
class RandomSplits:
    """Random parts of each data set, by content: in each of `count`, the share `test` of the contents is measured on.

    Data sets in `whole` are measured once, on all of their rows.
    """

    count: int
    test: float
    seed: int = 0
    whole: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "whole", tuple(self.whole))
        numbers = isinstance(self.count, int) and isinstance(self.test, float) and isinstance(self.seed, int)
        if not numbers or self.count < 1 or not 0 < self.test < 1:
            raise ProtocolError(
                f"`splits` needs a count of at least 1 and a test share in (0, 1), not {self.count} and {self.test}."
            )


@dataclass(frozen=True)
class Protocol:
    """A protocol as its file says; see the module.

    Attributes:
        name: that of its file.
        folder: where its manifests' relative paths start from.
        measures: those that head the report.
        pixels: at most one of `PIXELS`, with a number.
    """

    name: str
    folder: Path
    title: str
    about: str
    sets: tuple[RatedSet, ...]
    trained_on: tuple[str, ...] = ()
    splits: RandomSplits | None = None
    measures: tuple[str, ...] = ("srcc", "plcc")
    summary: str = "mean"
    pixels: Mapping[str, int] | None = None

    def pixels_of(self, rated_set: RatedSet) -> Mapping[str, int] | None:
        """At how many pixels the pictures of a data set are shown to the models; None as they are."""
        return rated_set.pixels or self.pixels

    @property
    def definition(self) -> dict[str, Any]:
        """All that the numbers depend on, as JSON can hold it; so not where the files are."""
        whole = {key: value for key, value in asdict(self).items() if key != "folder"}
        sets = [{key: value for key, value in each.items() if key != "image_root"} for each in whole["sets"]]
        return whole | {"sets": tuple(sets)}

    @property
    def identity(self) -> str:
        """The name and a hash of the definition: numbers may share a table where this is the same."""
        definition = {key: value for key, value in self.definition.items() if key not in ("title", "about")}
        text = json.dumps(definition, sort_keys=True, default=list)
        return f"{self.name}@{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def protocol_names() -> list[str]:
    """The protocols that come with the package."""
    return sorted(path.stem.replace("_", "-") for path in FOLDER.glob("*.yaml"))


def load_protocol(name: str | Path) -> Protocol:
    """The protocol of that name in the package, or of that YAML file.

    Raises:
        ProtocolError: there is no such protocol, the file can't be read, or a key or value in it is not understood.
    """
    path = Path(name)
    if path.suffix not in (".yaml", ".yml"):
        check_choice("protocol", str(name), protocol_names(), ProtocolError)
        path = FOLDER / f"{str(name).replace('-', '_')}.yaml"
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise ProtocolError(f"The protocol {path} can't be read: {reason}.") from error
    try:
        return _protocol(path, content)
    except ProtocolError as error:
        raise ProtocolError(f"In the protocol {path}: {error}") from error


def _protocol(path: Path, content: Any) -> Protocol:
    given = _keys(content, Protocol, "a protocol", leave_out=("name", "folder"))
    sets = given.get("sets")
    if not isinstance(sets, list) or not sets:
        raise ProtocolError("`sets` must be a list of at least one data set, each with a `name`.")
    given["sets"] = tuple(_rated_set(each) for each in sets)
    names = [each.name for each in given["sets"]]
    if len(set(names)) < len(names):
        raise ProtocolError(f"two data sets are called {max(names, key=names.count)!r}; give each its own `name`.")
    if given.get("splits") is not None:
        given["splits"] = RandomSplits(**_keys(given["splits"], RandomSplits, "`splits`"))
    for key in ("measures", "trained_on"):
        if not isinstance(given.setdefault(key, list(getattr(Protocol, key))), list):
            raise ProtocolError(f"`{key}` must be a list, not {given[key]!r}.")
        given[key] = tuple(given[key])
    for measure in given["measures"]:
        check_choice("measure", measure, MEASURES, ProtocolError)
    check_choice("summary", given.get("summary", "mean"), SUMMARIES, ProtocolError)
    _check_pixels(given.get("pixels"))
    return Protocol(name=path.stem.replace("_", "-"), folder=path.parent, **_texts(given, ("title", "about")))


def _rated_set(each: Any) -> RatedSet:
    given = _keys(each, RatedSet, "a data set")
    _check_pixels(given.get("pixels"))
    return RatedSet(**_texts(given, [key for key in given if key != "pixels"]))


def _keys(given: Any, kind: type, what: str, leave_out: tuple[str, ...] = ()) -> dict[str, Any]:
    """A mapping whose keys are fields of `kind`, none of those without a default missing."""
    if not isinstance(given, dict):
        raise ProtocolError(f"{what} must be keys with values, not {given!r}.")
    known = [field.name for field in fields(kind) if field.name not in leave_out]
    for key in given:
        check_choice(f"key of {what}:", key, known, ProtocolError)
    required = [name for name in known if name not in vars(kind)]
    missing = [name for name in required if name not in given]
    if missing:
        raise ProtocolError(f"{what} needs the key {missing[0]!r}.")
    return dict(given)


def _texts(given: dict[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    for key in keys:
        if given[key] is not None and not isinstance(given[key], str):
            raise ProtocolError(f"{key!r} must be text, not {given[key]!r}.")
    return given


def _check_pixels(pixels: Any) -> None:
    if pixels is None:
        return
    if (
        not isinstance(pixels, dict)
        or len(pixels) != 1
        or not all(isinstance(n, int) and n > 0 for n in pixels.values())
    ):
        raise ProtocolError(f"`pixels` is one of {', '.join(PIXELS)} with a number, not {pixels!r}.")
    check_choice("key of `pixels`:", next(iter(pixels)), PIXELS, ProtocolError)
