"""What every step after a sweep says of it."""

import logging
from pathlib import Path

import pytest

from tests.factories import make_result
from xmadapter.config import MethodConfig, SweepConfig, TipConfig, ZeroShotConfig
from xmadapter.jobs.delivery import tell_left_out
from xmadapter.results import SweepFolder


@pytest.fixture
def folder(tmp_path: Path) -> SweepFolder:
    methods = (MethodConfig(adapter=ZeroShotConfig()), MethodConfig(adapter=TipConfig(), name="of one's own"))
    config = SweepConfig(features="features", output=str(tmp_path), experiment="made up", methods=methods)
    return SweepFolder(tmp_path, config, "uid")


def test_methods_without_a_finished_trial_are_named(folder: SweepFolder, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.WARNING):
        tell_left_out(folder, [make_result(method="Zero-shot")])
    assert "1 of 2 methods have no finished trial" in caplog.text
    assert "of one's own" in caplog.text


def test_nothing_is_said_where_all_are_there(folder: SweepFolder, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.WARNING):
        tell_left_out(folder, [make_result(method="Zero-shot"), make_result(method="of one's own")])
    assert not caplog.text
