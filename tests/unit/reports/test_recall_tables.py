import pytest

from tests.unit.reports.recall_factories import make_recall_final, make_recall_sweep
from xmadapter.config import (
    ContrastiveConfig,
    HeadsConfig,
    LoraConfig,
    UniAdapterConfig,
    ZeroShotRetrievalConfig,
)
from xmadapter.errors import ConfigError
from xmadapter.reports import recall_summary
from xmadapter.reports.grid import make_recall_grid
from xmadapter.reports.recall.pairs import against_heads, against_zero_shot, economy
from xmadapter.reports.recall.rows import COLUMNS, chosen_rows, measured_cells, spent
from xmadapter.reports.recall.sentences import captions_sentence, headline
from xmadapter.reports.recall.tables import recall_comparison

ZERO = make_recall_final(ZeroShotRetrievalConfig(), (10, 10, 10))
LORA = make_recall_final(LoraConfig(), (12, 13, 14))


def plain(texts: list[str]) -> list[str]:
    return [text.replace("\N{MINUS SIGN}", "-") for text in texts]


def test_a_row_of_the_comparison_by_hand() -> None:
    row = recall_comparison([ZERO, LORA], [LORA.choice, ZERO.choice, LORA.choice]).to_pylist()[1]
    # 60, 65 and 70 % of 20 captions, the same at every K and in both directions: mean 65, standard deviation 5,
    # t(0.975, 2) = 4.3027: half width 4.3027 * 5 / sqrt(3) = 12.421.
    for measure in ("text_to_image_r1", "text_to_image_r10", "image_to_text_r5", "mean_recall"):
        assert row[measure] == pytest.approx(0.65)
        assert row[f"{measure}_low"] == pytest.approx(0.52579, abs=1e-5)
        assert row[f"{measure}_high"] == pytest.approx(0.77421, abs=1e-5)
    assert row["minus_zero_shot_r1"] == pytest.approx(0.15)  # zero-shot finds 10 of 20
    assert row["minus_zero_shot_r1_low"] < 0.15 < row["minus_zero_shot_r1_high"]
    # Wilson at 12 of 20.
    assert row["first_seed_text_to_image_r1_low"] == pytest.approx(0.38658, abs=1e-5)
    assert (row["trials"], row["trial_seconds"], row["stored_bytes"]) == (2, 4.0, 4000)
    assert (row["training_images"], row["test_images"], row["test_captions"], row["convention"]) == (
        100,
        20,
        20,
        "caption",
    )


def test_median_ranks_are_means_over_seeds_and_less_is_better() -> None:
    # Of 20 captions 9 and 10 at rank 1, the others at rank 20: medians 20 and 10.5.
    worse, better = make_recall_final(HeadsConfig(), (9, 10)), make_recall_final(LoraConfig(), (12, 13))
    (first, *_), (second, *_) = [
        [cell for cell, column in zip(cells, COLUMNS, strict=True) if column.title == "median rank"]
        for cells in measured_cells([worse, better])
    ]
    assert (first.text, first.best) == ("15.2", False)
    assert (second.text, second.best) == ("1.0", True)


def test_the_best_of_a_column_is_marked_and_equals_share_it() -> None:
    twin = make_recall_final(UniAdapterConfig(), (12, 13, 14))
    rows = measured_cells([ZERO, LORA, twin])
    assert [cells[0].best for cells in rows] == [False, True, True]
    assert [cells[0].text for cells in rows] == ["50.0", "65.0", "65.0"]
    assert [cells[0].below for cells in rows] == ["", "±12.4", "±12.4"]
    assert (rows[0][-1].text, rows[1][-1].text) == ("-", "+15.0")
    assert not any(cells[-1].best for cells in rows)
    assert not any(cell.best for cell in measured_cells([LORA])[0])


def test_trials_are_counted_by_method_and_number_of_images() -> None:
    more = make_recall_final(LoraConfig(), (12, 13, 14), images=500)
    took = spent(LORA, [LORA.choice, more.choice, ZERO.choice, LORA.choice])
    assert (took.trials, took.trial_seconds, took.stored_kb) == (2, 4.0, 4.0)


def test_hyperparameters_that_any_trial_varied_are_shown_with_the_validation_score() -> None:
    varied = make_recall_final(
        LoraConfig(rank=4, fit=ContrastiveConfig(learning_rate=3e-3)), (12, 13, 14), validation=(11, 11, 11)
    )
    (row,) = chosen_rows(make_recall_grid([varied]), [LORA.choice])
    assert (row.values, row.images) == ("rank 4, fit.learning_rate 0.003", 100)
    assert row.validation == pytest.approx(0.55)
    (default,) = chosen_rows(make_recall_grid([LORA]), [varied.choice])
    assert default.values == "rank 8, fit.learning_rate 0.0001"


@pytest.mark.parametrize(
    ("others", "message"),
    [
        ([], "no final result"),
        ([LORA, make_recall_final(HeadsConfig(), (12, 13))], "several sets of seeds"),
        ([LORA, LORA], "two results of LoRA at 100"),
        ([LORA, make_recall_final(HeadsConfig(), (12, 13, 14), captions=2)], "sizes of the test split"),
        ([LORA, make_recall_final(HeadsConfig(), (12, 13, 14), convention="group")], "ways to rank captions"),
    ],
)
def test_results_measured_differently_never_share_a_table(others: list, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        recall_summary(others)


def test_the_terminal_table_says_how_it_was_measured_and_fits_100_columns() -> None:
    text = recall_summary(make_recall_sweep((100, 2000)))
    assert "seeds 1, 2, 3; 20 test images, 20 test captions." in text
    assert "\n100 training images\n" in text
    assert "\n2,000 training images\n" in text
    assert "149,620,737" in text
    assert "±12.4" in text
    assert max(map(len, text.splitlines())) <= 100


def test_one_seed_claims_no_interval_over_seeds() -> None:
    finals = make_recall_sweep(seeds=1)
    assert "±" not in recall_summary(finals)
    assert "of one seed" in recall_summary(finals)
    assert "over seeds" not in headline(make_recall_grid(finals))
    sentences = plain(against_heads(make_recall_grid(finals)))
    assert "4 better without an interval; 1 not better without an interval" in sentences[0]
    assert sentences[1].startswith("One seed gives no interval")
    assert sentences[2:] == [
        "Full fine-tuning against Linear heads: not better with 100 training images, -35.0 points (no interval)."
    ]


def test_names_reach_the_terminal_without_control_characters_or_markup() -> None:
    text = recall_summary([make_recall_final(LoraConfig(), (12, 13), method="[red]\x1b\r")])
    assert "[red]\\x1b\\r" in text
    assert all(letter.isprintable() or letter == "\n" for letter in text)


def test_a_method_below_zero_shot_is_said_to_be_worse_and_one_beside_it_not_to_be_told_apart() -> None:
    counts, heads, full = plain(against_zero_shot(make_recall_grid(make_recall_sweep())))
    assert counts == (
        "6 comparisons with Zero-shot in text to image recall@1: 4 better by an interval that excludes 0; "
        "1 within the interval; 1 worse by an interval that excludes 0."
    )
    assert heads.startswith("Linear heads against Zero-shot: not told apart with 100 training images, +3.3 points (")
    assert full.startswith("Full fine-tuning against Zero-shot: worse with 100 training images, -33.3 points (")


def test_a_headline_does_not_praise_what_zero_shot_beats() -> None:
    worse = make_recall_final(LoraConfig(), (3, 4, 3), validation=(15, 15, 15))
    sentence = headline(make_recall_grid([ZERO, worse]))
    assert "LoRA is best by validation" in sentence
    assert "zero-shot's 50.0 %" in sentence
    assert sentence.endswith("so it is worse.")
    assert headline(make_recall_grid([ZERO, make_recall_final(LoraConfig(), (3, 4, 3))])).endswith(
        "nothing that was trained is preferred to it."
    )
    assert headline(make_recall_grid([make_recall_final(LoraConfig(), (3, 4, 3), compared=False)])).endswith(
        "zero-shot was not run."
    )


def test_differences_to_linear_heads_are_paired_by_seed() -> None:
    heads = make_recall_final(HeadsConfig(), (10, 11, 12))
    # Differences of 15, 10 and 20 points: mean 15, deviation 5, half width 12.42. Unpaired they would be far wider.
    ours = make_recall_final(LoraConfig(), (13, 13, 16))
    near = make_recall_final(UniAdapterConfig(), (11, 10, 13))
    sentences = plain(against_heads(make_recall_grid([ZERO, heads, ours, near])))
    assert sentences[0].endswith("1 better by an interval that excludes 0; 1 within the interval.")
    assert sentences[2:] == [
        "UniAdapter against Linear heads: not told apart with 100 training images, +1.7 points (interval -12.7 to +16.0)."
    ]


def test_absent_references_are_asked_for() -> None:
    grid = make_recall_grid([LORA])
    assert "Add `zero-shot`." in against_zero_shot(grid)[0]
    assert "Add `heads`." in against_heads(grid)[0]
    assert economy(grid) == ["No method trains fewer parameters than LoRA, the best by validation."]


def test_fewer_parameters_are_set_beside_the_best_and_shared_weights_beside_plain_ones() -> None:
    sentences = plain(economy(make_recall_grid(make_recall_sweep())))
    cross, plain_adapter = "Cross-Modal Adapter has 221,184", "those of Plain adapter"
    to_best = next(text for text in sentences if cross in text and "9.0 % of those of UniAdapter" in text)
    to_plain = next(text for text in sentences if cross in text and plain_adapter in text)
    # 14, 16, 15 against 15, 16, 17 of 20: -5, 0, -10 points, half width 12.4; against 15, 15, 16: -5, +5, -5.
    assert "it reaches it, as far as 3 seeds can tell: -5.0 points (interval -17.4 to +7.4)" in to_best
    assert "85.7 % of those of Plain adapter" in to_plain
    assert "-1.7 points" in to_plain
    assert any("Linear heads has 524,288" in text and "it does not reach it" in text for text in sentences)
    assert not any("Full fine-tuning has" in text for text in sentences)  # it trains more than the best
    assert len(sentences) == 5


def test_how_captions_are_counted_is_said() -> None:
    five = make_recall_final(LoraConfig(), (40, 50), captions=5, convention="group")
    sentence = captions_sentence(make_recall_grid([five]))
    assert "5.0 captions on average" in sentence
    assert "convention “group”" in sentence
    assert "of which it has one" in captions_sentence(make_recall_grid([LORA]))
