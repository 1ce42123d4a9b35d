from __future__ import annotations

from scripts.statistics.interval_coverage import TARGET, coverage_beside, coverage_table


def test_coverage_is_printed_only_where_it_misses_the_target():
    for row in coverage_table():
        shown = coverage_beside(row["measure"], row["n_by_class"], row.get("area"), row.get("spread"))
        inside = TARGET[0] <= row["coverage"] <= TARGET[1]
        assert shown == (None if inside else row["coverage"])
    assert coverage_beside("ece", [14, 500]) == coverage_beside("ece", [15, 52])
    assert coverage_beside("ece", [20, 20, 20]) == coverage_beside("ece", [40] * 4) != coverage_beside("ece", [15, 52])
    assert coverage_beside("nothing", [15, 52]) is None


def test_the_coverage_of_an_auc_is_that_of_the_nearest_area_and_spread():
    rows = {
        (row["area"], row["spread"]): row["coverage"]
        for row in coverage_table()
        if row["measure"] == "auc" and row["n_by_class"] == [37, 187]
    }
    outside = {key: share for key, share in rows.items() if not TARGET[0] <= share <= TARGET[1]}
    assert outside, "the report would have nothing to warn of"
    for (area, spread), share in outside.items():
        assert coverage_beside("auc", [40, 200], area + 0.001, spread * 1.1) == share
    assert coverage_beside("auc", [37, 187], 1.0, 1.0) == coverage_beside("auc", [37, 187], 0.99, 1.0)
