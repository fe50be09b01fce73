"""Which rows are measured, and in which order."""

from glowkit.book import claims
from glowkit.measures import ROWS


def test_rows_are_findings_of_the_ledger_in_its_order():
    order = list(claims.rows())
    assert list(ROWS) == sorted(ROWS, key=order.index)
    assert all(claims.rows()[id].kind == claims.FINDING for id in ROWS)
