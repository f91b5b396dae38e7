"""What a person sees of a sweep that runs."""

import io

import pytest
from rich.console import Console

from tests.factories import make_result
from tests.unit.distributed.test_search import make_study
from xmadapter.distributed.view import SweepView
from xmadapter.study import FinishedTrial

ROWS = {"a": "Tip-Adapter-F", "b": "Linear [probe]"}


def terminal(file: io.StringIO) -> Console:
    return Console(file=file, force_terminal=True, width=110, color_system=None)


def watch(console: Console) -> SweepView:
    """A sweep of 48 trials: 3 kept, then one better, one failed, one stopped early, one under way."""
    one, other = make_study({}, uid="a"), make_study({}, uid="b").model_copy(update={"shots": 16})
    view = SweepView(48, ROWS, console)
    with view:
        view.kept([(one, {number: FinishedTrial({}, make_result(validation=(0.5, 0.5))) for number in range(3)})])
        for number in range(4):
            view.started(str(number))
        view.ended("0", one, FinishedTrial({}, make_result(validation=(0.625, 0.625))), None)
        view.ended("1", other, FinishedTrial({}), "Diverged: made up")
        view.ended("2", other, FinishedTrial({}, rungs={3: 0.2}), None)
        view.ended("3", other, FinishedTrial({}, make_result(validation=(0.75, 0.75))), None)
        view.started("4")
    return view


def test_a_terminal_shows_counts_and_the_best_of_each_row_at_each_shot_count():
    watch(terminal(screen := io.StringIO()))
    last = screen.getvalue().rsplit("sweeping", 1)[1]
    assert "7/48" in last
    assert "1 running, 1 failed, 1 stopped early" in last
    rows = [line.split() for line in last.splitlines()]
    assert ["best", "so", "far,", "by", "shots", "4", "16"] in rows
    assert ["Tip-Adapter-F", "62.5"] in rows
    assert ["Linear", "[probe]", "75.0"] in rows


def test_a_log_gets_one_line_without_control_characters(capsys):
    watch(Console(file=io.StringIO()))
    err = capsys.readouterr().err
    assert "7/48" in err
    assert "1 running, 1 failed, 1 stopped early, best 0.750 Linear [probe]" in err
    assert "\x1b" not in err


def test_an_error_ends_the_live_table():
    screen = io.StringIO()
    with pytest.raises(KeyboardInterrupt), SweepView(1, ROWS, terminal(screen)):
        raise KeyboardInterrupt
    assert screen.getvalue().endswith("\x1b[?25h")  # the cursor is back
