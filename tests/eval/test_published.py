"""Published numbers: each under a protocol of the package, with its data sets and measures only."""

import pytest

from mriqa.eval.protocols import load_protocol, protocol_names
from mriqa.eval.published import published_tables


def test_every_table_fits_its_protocol():
    tables = published_tables()
    assert {table.protocol for table in tables} <= set(protocol_names())
    for table in tables:
        protocol = load_protocol(table.protocol)
        known = {each.name for each in protocol.sets} | {"mean"}
        assert table.source and table.rows
        for method, sets in table.rows.items():
            assert set(sets) <= known, method
            for measures in sets.values():
                assert set(measures) <= set(protocol.measures)
                assert all(-1 <= value <= 1 for value in measures.values())


@pytest.mark.parametrize("protocol", ["mr-iqa", "shamisa", "presta"])
def test_means_are_those_of_their_row(protocol):
    """A slip of the pen in a row would show. One mean does not follow from its row in the paper itself."""
    in_the_paper = {("presta", "DBCNN", "srcc"): 0.613}
    for table in published_tables(protocol):
        for method, sets in table.rows.items():
            others = [measures for name, measures in sets.items() if name != "mean"]
            if "mean" in sets and len(others) == len(load_protocol(protocol).sets):
                for name, value in sets["mean"].items():
                    mean = sum(each[name] for each in others) / len(others)
                    mean = in_the_paper.get((protocol, method, name), mean)
                    assert mean == pytest.approx(value, abs=1.1e-3), (method, name)  # some papers cut instead of round


def test_another_protocol_has_none():
    assert published_tables("koniq-official") == []
