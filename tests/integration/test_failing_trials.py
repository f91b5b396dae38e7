"""A sweep whose trials fail: where it stops, what it keeps, and what two sweeps in one job do to each other."""

from pathlib import Path

import pytest

from tests.integration.conftest import Step
from tests.integration.line import Desk, sweep_config, trial_lines
from xmadapter.results import open_sweep_folder
from xmadapter.trial import TrialResult

pytestmark = pytest.mark.timeout(300)  # Ray starts in the first test, on a machine that may be busy

METHODS = [{"adapter": {"kind": "tip"}}] + [
    # Beyond float32, so that the logits are not finite.
    {"adapter": {"kind": "tip", "cache_weight": 1e39}, "solve": {}, "name": name}
    for name in ("a", "b", "c", "d", "e", "f")
]


def test_a_sweep_stops_where_too_many_trials_fail_and_keeps_the_others(folder: Path, encoded: Step, desk: Desk):
    output = folder / "failing"
    config = sweep_config(folder / "failing.yaml", encoded.path, output=str(output), methods=METHODS, shots=[1, 2, 4])
    done = desk("pipelines.sweep", "--config", config)
    assert done.status == 3
    assert done.errors[0].startswith("error[too-many-failed]: ")
    assert "raise max_failed_fraction" in done.errors[0]
    failed = int(done.errors[0].split()[1])
    assert 5 <= failed < 18  # a fifth of 21, and what was under way
    assert f"{21 - trial_lines(output)} not run" in done.errors[0]
    allowed = desk("pipelines.sweep", "--config", config, "max_failed_fraction=1")
    assert allowed.status == 0
    assert trial_lines(output) == 21
    assert "failed: " in allowed.out
    best = open_sweep_folder(str(output)).results(_plan(encoded.path), TrialResult)
    assert {result.method for result in best} == {"Tip-Adapter"}


def test_where_all_fail_the_cause_is_told_once(folder: Path, encoded: Step, desk: Desk):
    config = sweep_config(
        folder / "hopeless.yaml", encoded.path, output=str(folder / "hopeless"), methods=METHODS[1:2], shots=[1]
    )
    done = desk("pipelines.sweep", "--config", config)
    assert done.status == 3
    assert "all 1 trials failed: Diverged" in done.errors[0]


def _plan(features: Path) -> str:
    from xmadapter.features import open_features

    return open_features(str(features)).manifest.plan_fingerprint
