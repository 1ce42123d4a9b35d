from __future__ import annotations

from scripts.statistics.interval_coverage import TARGET, coverage_beside, coverage_table


def test_coverage_is_printed_only_where_it_misses_the_target():
    for row in coverage_table():
        shown = coverage_beside(row["measure"], row["n_by_class"])
        inside = TARGET[0] <= row["coverage"] <= TARGET[1]
        assert shown == (None if inside else row["coverage"])
    assert coverage_beside("ece", [14, 500]) == coverage_beside("ece", [15, 52])
    assert coverage_beside("ece", [20, 20, 20]) is None
    assert coverage_beside("nothing", [15, 52]) is None
