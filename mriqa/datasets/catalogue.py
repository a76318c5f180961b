"""The public data sets that we read, by name."""

from __future__ import annotations

from mriqa.choices import check_choice
from mriqa.datasets.adapters import (
    agiqa3k,
    bid,
    csiq,
    flive,
    kadid10k,
    kadis700k,
    koniq10k,
    live,
    livec,
    pipal,
    spaq,
    tid2013,
    uhdiqa,
    waterloo,
)
from mriqa.datasets.data_set import DataSet, DataSetError

DATA_SETS: dict[str, DataSet] = {
    adapter.DATA_SET.name: adapter.DATA_SET
    for adapter in (
        koniq10k,
        spaq,
        livec,
        flive,
        bid,
        uhdiqa,
        agiqa3k,
        kadid10k,
        csiq,
        tid2013,
        live,
        pipal,
        kadis700k,
        waterloo,
    )
}


def find_data_set(name: str) -> DataSet:
    """The data set of that name. Raises DataSetError, with the nearest name, where there is none."""
    check_choice("data set", name, DATA_SETS, DataSetError)
    return DATA_SETS[name]
