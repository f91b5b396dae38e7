"""What an interrupted sweep waits for: the trials that run, and nothing that starts in the meantime."""

from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest

from tests.factories import make_result
from tests.unit.distributed.test_search import make_study
from xmadapter.distributed.sweep import _Record  # pyright: ignore[reportPrivateUsage]  what Tune calls, without Tune

STUDY = make_study({}, uid="study")


def make_trial(name: str, number: int) -> Any:
    result = make_result().model_dump_json()
    config = {"study": STUDY.uid, "number": number, "drawn": {}, "again": True}
    return SimpleNamespace(trial_id=name, config=config, last_result={"result": result}, get_error=lambda: None)


class Sweep:
    """A sweep of three trials, of which `recorded` have ended."""

    def __init__(self) -> None:
        self.studies, self.failures, self.hopeless, self.finished = [STUDY], Counter(), False, 0
        self.recorded: list[str] = []
        self.tracker = SimpleNamespace(record=lambda entry: self.recorded.append(entry.uid))

    @property
    def left(self) -> int:
        return 3 - self.finished


@pytest.fixture
def sweep() -> Sweep:
    return Sweep()


@pytest.fixture
def record(sweep: Any) -> _Record:
    view: Any = SimpleNamespace(started=lambda trial_id: None, ended=lambda *row: None)
    search: Any = None
    return _Record([sweep], search, view)


def test_the_job_is_interrupted_when_the_last_trial_in_hand_has_been_recorded(sweep: Sweep, record: _Record, caplog):
    first, second, third = (make_trial(name, number) for number, name in enumerate("abc"))
    record.on_trial_start(0, [], first)
    record.on_trial_start(0, [], second)
    record.drain()
    assert "2 trials in hand finish; interrupt again to stop at once" in caplog.text
    record.on_trial_complete(0, [], first)
    record.on_trial_start(0, [], third)  # Tune had it ready
    with pytest.raises(KeyboardInterrupt):
        record.on_trial_error(0, [], second)
    assert sweep.recorded == ["study-0", "study-1"]


def test_with_nothing_in_hand_the_job_is_interrupted_at_once(record: _Record):
    with pytest.raises(KeyboardInterrupt):
        record.drain()


def test_a_sweep_whose_last_trials_are_in_hand_ends_as_if_nobody_had_interrupted(sweep: Sweep, record: _Record):
    trials = [make_trial(name, number) for number, name in enumerate("abc")]
    for trial in trials:
        record.on_trial_start(0, [], trial)
    record.drain()
    for trial in trials:
        record.on_trial_complete(0, [], trial)
    assert sweep.left == 0
