"""What is said to have mattered is what made the difference, and nothing is said of too few trials."""

import numpy as np
import pytest

from tests.factories import make_result
from tests.unit.reports.factories import make_report, make_sweep
from xmadapter.reports.importance import importances
from xmadapter.reports.markdown import render_markdown
from xmadapter.trial import TrialResult


def make_trials(count: int, *, title: str = "Tip-Adapter-F") -> list[TrialResult]:
    """The learning rate decides; the sharpness does nothing; two shot counts far apart in accuracy."""
    rng, trials = np.random.default_rng(0), []
    for number in range(count):
        rate, sharpness = float(10 ** rng.uniform(-4, -2)), float(rng.uniform(1, 9))
        shots = (1, 16)[number % 2]
        score = 0.05 * shots - 0.01 * abs(np.log10(rate) + 3) + 1e-4 * rng.normal()
        adapter = {"kind": "tip-f", "sharpness": sharpness, "fit": {"learning_rate": rate}}
        trials.append(
            make_result(method=title, adapter=adapter, shots=shots, validation=(score, score), validation_rows=10**6)
        )
    return trials


def test_the_parameter_that_decides_has_the_largest_share():
    (one,) = importances(make_trials(40))
    assert (one.method, one.trials) == ("Tip-Adapter-F", 40)
    assert list(one.shares) == ["fit.learning_rate", "sharpness"]
    assert sum(one.shares.values()) == pytest.approx(1)
    assert one.shares["fit.learning_rate"] > 0.8


def test_too_few_trials_and_methods_without_a_search_are_left_out():
    assert importances(make_trials(9)) == []
    assert importances([make_result()] * 20) == []
    assert importances([]) == []


def test_the_report_says_what_mattered_and_why_trials_failed():
    plain = make_report(make_sweep())
    assert plain.importances == ()
    text = render_markdown(plain)
    assert "mattered" not in text
    assert "## Why trials failed\n\n- 2 trials: Diverged: loss \\[inf\\]" in text
    assert "2 failed" in text
    searched = make_report(make_sweep(), trials=make_trials(40))
    assert "## Which hyperparameters mattered" in render_markdown(searched)
    assert "Tip-Adapter-F (40 trials): fit.learning\\_rate " in render_markdown(searched)
