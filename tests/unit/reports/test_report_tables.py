import pytest

from tests.unit.reports.factories import make_final, make_sweep
from xmadapter.config import LinearProbeConfig, TipConfig, TipFConfig, XMAdapterConfig, ZeroShotConfig, with_parameters
from xmadapter.errors import ConfigError
from xmadapter.reports import comparison, summary_table
from xmadapter.reports.choices import chosen_rows, class_rows, cost_rows
from xmadapter.reports.grid import make_grid
from xmadapter.reports.markdown import accuracy_markdown
from xmadapter.reports.paired import compare, losses, paired_cell

PROBE = make_final(LinearProbeConfig(), (0.70, 0.72, 0.74))


def test_a_row_of_the_comparison_by_hand() -> None:
    row = comparison([PROBE]).to_pylist()[0]
    # Mean 0.72, standard deviation 0.02, t(0.975, 2) = 4.3027: half width 4.3027 * 0.02 / sqrt(3) = 0.04968.
    assert row["test_mean"] == pytest.approx(0.72)
    assert row["test_low"] == pytest.approx(0.67032, abs=1e-5)
    assert row["test_high"] == pytest.approx(0.76968, abs=1e-5)
    # Wilson at 700 of 1000 with z = 1.95996: centre (0.7 + z²/2000) / (1 + z²/1000) = 0.69923, half width 0.02836.
    assert row["first_seed_wilson_low"] == pytest.approx(0.67088, abs=1e-5)
    assert row["first_seed_wilson_high"] == pytest.approx(0.72759, abs=1e-5)
    assert (row["method"], row["shots"], row["seeds"], row["test_images"]) == ("Linear probe", 4, 3, 1000)


def test_methods_stay_in_order_of_appearance_and_shots_ascend() -> None:
    finals = [make_final(kind, (0.5, 0.6), shots=shots) for shots in (8, 1) for kind in (TipConfig(), ZeroShotConfig())]
    table = comparison(finals)
    assert table["method"].to_pylist() == ["Tip-Adapter", "Tip-Adapter", "Zero-shot", "Zero-shot"]
    assert table["shots"].to_pylist() == [1, 8, 1, 8]


@pytest.mark.parametrize(
    ("others", "message"),
    [
        ([], "no final result"),
        (
            [PROBE, make_final(TipConfig(), (0.7, 0.7, 0.8), protocol="full-val")],
            "several protocols: fewshot-val, full-val",
        ),
        ([PROBE, make_final(TipConfig(), (0.7, 0.7))], "several sets of seeds"),
        ([PROBE, PROBE], "two results of Linear probe at 4"),
        (
            [PROBE, make_final(TipConfig(), (0.7, 0.7, 0.8)).model_copy(update={"test_rows": 10})],
            "sizes of the test split",
        ),
    ],
)
def test_results_measured_differently_never_share_a_table(others: list, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        summary_table(others)


def test_the_terminal_table_says_how_it_was_measured_and_fits_100_columns() -> None:
    text = summary_table(make_sweep())
    assert "Protocol fewshot-val; seeds 1, 2, 3; 1,000 test images." in text
    assert "74.7 ±3.6" in text
    assert "val 75.7" in text
    assert max(map(len, text.splitlines())) <= 100
    assert sum("Tip-Adapter" in line for line in text.splitlines()) == 2


def test_one_seed_claims_no_interval() -> None:
    text = summary_table([make_final(TipConfig(), (0.7,))])
    assert "±" not in text
    assert "70.0" in text


def test_names_reach_the_terminal_without_control_characters_or_markup() -> None:
    text = summary_table([make_final(TipConfig(), (0.7, 0.8), method="[red]a\x1b[31m\u202eb\r\n")])
    assert "[red]a\\x1b[31m\\u202eb\\r\\n" in text
    assert all(letter.isprintable() or letter == "\n" for letter in text)


def test_a_method_missing_at_one_shot_count_leaves_an_empty_cell() -> None:
    finals = [make_final(TipConfig(), (0.7, 0.8), shots=shots) for shots in (1, 2)]
    grid = make_grid([*finals, make_final(LinearProbeConfig(), (0.7, 0.8), shots=2)])
    assert accuracy_markdown(grid).splitlines()[-1] == "| Linear probe |  | 75.0 ±63.5 (75.0) |"
    assert [(pair.method, pair.shots) for pair in compare(grid)] == [("Tip-Adapter", 2)]
    assert "-" in summary_table(grid.finals).splitlines()[-2]


def test_paired_differences_by_hand() -> None:
    tip = make_final(TipConfig(), (0.71, 0.74, 0.77))
    ours = make_final(XMAdapterConfig(), (0.75, 0.76, 0.80))
    pairs = compare(make_grid([PROBE, tip, ours]))
    # Tip minus probe: 1, 2, 3 points; mean 2, deviation 1, half width 4.3027 / sqrt(3) = 2.48.
    # XMAdapter minus probe: 5, 4, 6: mean 5, the same width. XMAdapter minus Tip: 4, 2, 3: mean 3, the same width.
    assert [(pair.method[:9], pair.reference, paired_cell(pair).replace("\N{MINUS SIGN}", "-")) for pair in pairs] == [
        ("Tip-Adapt", "Linear probe", "+2.0 (-0.5 to +4.5)"),
        ("XMAdapter", "Linear probe", "+5.0 (+2.5 to +7.5)"),
        ("XMAdapter", "Tip-Adapter", "+3.0 (+0.5 to +5.5)"),
    ]
    assert [pair.verdict for pair in pairs] == ["within", "above", "above"]


def test_losses_are_said_with_their_certainty() -> None:
    finals = [
        *(make_final(LinearProbeConfig(), (0.70, 0.72, 0.74), shots=shots) for shots in (1, 2)),
        make_final(TipConfig(), (0.60, 0.62, 0.65), shots=1),
        make_final(TipConfig(), (0.69, 0.70, 0.74), shots=2),
    ]
    grid = make_grid(finals)
    count, caution, tip = losses(grid, compare(grid))
    assert count == (
        "In 2 comparisons with Linear probe, a method is behind in 2, in 1 of them by an interval that excludes 0. "
        "It is ahead by an interval that excludes 0 in none."
    )
    assert "With 3 seeds" in caution
    assert tip.replace("\N{MINUS SIGN}", "-") == (
        "Tip-Adapter: 9.7 points lower at 1 shot, by an interval that excludes 0 (-11.1 to -8.2); "
        "1.0 points lower at 2 shots, within the interval (-3.5 to +1.5)."
    )


@pytest.mark.parametrize(
    ("finals", "words"),
    [
        ([make_final(TipConfig(), (0.7, 0.8))], "no linear probe"),
        ([PROBE], "nothing to compare"),
        ([make_final(LinearProbeConfig(), (0.7,)), make_final(TipConfig(), (0.6,))], "One seed gives no interval"),
        ([make_final(LinearProbeConfig(), (0.7, 0.7)), make_final(TipConfig(), (0.6, 0.6))], "no interval"),
        ([PROBE, make_final(TipConfig(), (0.8, 0.8, 0.9))], "behind in none"),
    ],
)
def test_what_cannot_be_said_is_said_to_be_so(finals: list, words: str) -> None:
    grid = make_grid(finals)
    assert words in " ".join(losses(grid, compare(grid)))


def test_chosen_rows_show_what_any_trial_varied_and_join_equal_shot_counts() -> None:
    drawn = with_parameters(TipFConfig(), {"fit.learning_rate": 0.0042})
    finals = [
        make_final(TipFConfig(), (0.7, 0.8), shots=1, solved={"sharpness": 2.0}),
        make_final(TipFConfig(), (0.7, 0.8), shots=2, solved={"sharpness": 2.0}),
        make_final(drawn, (0.7, 0.8), shots=4),
    ]
    rows = chosen_rows(make_grid(finals), [final.choice for final in finals])
    assert [(row.shots, row.trained, row.solved) for row in rows] == [
        ((1, 2), f"fit.learning_rate {TipFConfig().fit.learning_rate}", "sharpness 2"),
        ((4,), "fit.learning_rate 0.0042", ""),
    ]


def test_costs_sum_trials_and_describe_the_largest_shot_count() -> None:
    finals = [make_final(TipConfig(), (0.7,), shots=shots, stored_bytes=1500 * shots) for shots in (1, 2)]
    (row,) = cost_rows(make_grid(finals), [final.choice for final in finals] * 2)
    assert (row.trials, row.trial_seconds, row.shots, row.stored_kb, row.final_seconds) == (4, 8.0, 2, 3.0, 1.5)


def test_the_best_is_best_by_validation_and_its_classes_come_lowest_first() -> None:
    modest = make_final(TipConfig(), (0.9, 0.9), validation=(0.5, 0.5))
    chosen = make_final(ZeroShotConfig(), (0.6, 0.6), validation=(0.8, 0.8))
    best = make_grid([modest, chosen]).best
    assert best.choice.method == "Zero-shot"
    shuffled = best.model_copy(update={"class_accuracy": (0.9, 0.1, 0.5)})
    assert class_rows(shuffled, ("a", "b", "c")) == [("b", 0.1), ("c", 0.5), ("a", 0.9)]
