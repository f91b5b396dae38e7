"""Tables over several data sets: averages, margins, ranks, and what the page says."""

import csv
import io

import pytest

from tests.unit.reports.factories import make_final
from xmadapter.config import AdapterConfig, FusedConfig, LinearProbeConfig, TipConfig
from xmadapter.reports import write_benchmark
from xmadapter.reports.benchmark import (
    BenchmarkEntry,
    average_over_sets,
    benchmark_csv,
    margins,
    mean_ranks,
    over_everything,
)
from xmadapter.reports.benchmark_page import render_benchmark

# method: accuracy per seed on two sets, at 1 and 4 shots
SCORES: dict[str, tuple[AdapterConfig, dict[tuple[str, int], tuple[float, float, float]]]] = {
    "Linear probe": (
        LinearProbeConfig(),
        {("a", 1): (0.5, 0.6, 0.4), ("b", 1): (0.3, 0.2, 0.4), ("a", 4): (0.7, 0.7, 0.7), ("b", 4): (0.6, 0.5, 0.4)},
    ),
    "Tip-Adapter": (
        TipConfig(),
        {("a", 1): (0.4, 0.6, 0.5), ("b", 1): (0.4, 0.3, 0.2), ("a", 4): (0.6, 0.7, 0.6), ("b", 4): (0.5, 0.6, 0.4)},
    ),
    "Fused adapter": (
        FusedConfig(),
        {("a", 1): (0.6, 0.7, 0.5), ("b", 1): (0.5, 0.4, 0.3), ("a", 4): (0.8, 0.8, 0.7), ("b", 4): (0.7, 0.2, 0.7)},
    ),
}
ENTRIES = [
    BenchmarkEntry(name, "tiny", f"hash of {name}" + "0" * 40, make_final(config, test, shots=shots))
    for config, cells in SCORES.values()
    for (name, shots), test in cells.items()
]


def test_an_average_over_sets_keeps_seeds_apart():
    final = average_over_sets(ENTRIES).at("Linear probe", 1)
    assert final is not None
    assert final.test == pytest.approx((0.4, 0.4, 0.4))
    assert final.test_rows == 2000


def test_a_margin_is_to_the_best_other_method_on_that_set_at_that_shot_count():
    found = {(margin.set, margin.shots): margin for margin in margins(ENTRIES, "Fused adapter")}
    assert found.keys() == {("a", 1), ("b", 1), ("a", 4), ("b", 4)}
    first = found["a", 4]
    assert (first.best_other, first.difference.estimate) == ("Linear probe", pytest.approx(0.2 / 3))
    assert found["b", 4].difference.low < 0 < found["b", 4].difference.high


def test_the_difference_over_everything_is_paired_by_seed():
    difference = over_everything(average_over_sets(ENTRIES), "Fused adapter")["Tip-Adapter"]
    per_seed = []
    for seed in range(3):
        ours, theirs = (
            sum(test[seed] for test in SCORES[method][1].values()) / 4 for method in ("Fused adapter", "Tip-Adapter")
        )
        per_seed.append(ours - theirs)
    assert difference.estimate == pytest.approx(sum(per_seed) / 3)
    assert difference.low < min(per_seed)


def test_ranks_are_over_sets_at_one_shot_count():
    found = mean_ranks(ENTRIES, 1)
    assert found is not None
    assert found[0] == {"Fused adapter": 1.0, "Linear probe": 2.5, "Tip-Adapter": 2.5}
    assert mean_ranks([entry for entry in ENTRIES if entry.set == "a"], 1) is None


def test_the_csv_says_where_each_row_was_measured():
    rows = list(csv.DictReader(io.StringIO(benchmark_csv(ENTRIES).decode())))
    assert len(rows) == 12
    assert {(row["set"], row["encoder"]) for row in rows} == {("a", "tiny"), ("b", "tiny")}
    assert float(rows[0]["test_mean"]) == pytest.approx(0.5)


def test_the_page_names_the_collapse_of_one_seed():
    page = render_benchmark(ENTRIES, reference="Fused adapter")
    assert "Fused adapter at 4 shots collapsed with seed 2" in page
    assert page.count("collapsed") == 1
    assert "### Fused adapter minus each other method" in page
    assert "1 is the best" in page


def test_what_is_written_is_the_same_twice(tmp_path):
    for name in ("one", "two"):
        write_benchmark(ENTRIES, reference="Fused adapter", output=str(tmp_path / name))
    first, second = ({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("one", "two"))
    assert first == second
    assert set(first) == {"benchmark.md", "benchmark.csv", "accuracy-tiny.png", "cost-tiny.png"}
