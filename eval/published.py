"""Published numbers of peers, each under its own protocol only: published.yaml says whose, and from where."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

FILE = Path(__file__).with_name("published.yaml")


@dataclass(frozen=True)
class PublishedTable:
    """Numbers of one publication.

    Attributes:
        protocol: the protocol under which they may be shown.
        source: where they were read.
        note: what a reader has to know.
        rows: method -> data set, or "mean" -> measure -> value.
    """

    protocol: str
    source: str
    note: str
    rows: Mapping[str, Mapping[str, Mapping[str, float]]]


def published_tables(protocol: str | None = None) -> list[PublishedTable]:
    """All tables, or those that belong to the protocol of that name: none where nobody published under it."""
    tables = [PublishedTable(**table) for table in yaml.safe_load(FILE.read_text(encoding="utf-8"))]
    return [table for table in tables if protocol is None or table.protocol == protocol]
