"""What a sweep left, read back by another version of the program."""

from pathlib import Path

import pytest

from xmadapter.config import SweepConfig
from xmadapter.errors import UnknownVersion
from xmadapter.final import FinalResult
from xmadapter.results import SweepFolder, create_sweep_folder

FOREIGN = {"method": "Fused adapter", "adapter": {"kind": "fused", "exponent": 0.7}}


@pytest.fixture
def folder(tmp_path: Path) -> SweepFolder:
    methods = [{"adapter": {"kind": "fused"}}]
    return create_sweep_folder(
        SweepConfig.model_validate(
            {"features": "f", "output": str(tmp_path / "sweep"), "experiment": "x", "methods": methods}
        )
    )


def test_a_trial_of_another_version_is_told_in_one_line_and_left_as_it_is(folder: SweepFolder):
    folder.append("trial", "a-1-0", {"study": "a-1", "number": 0, "drawn": {}, "result": FOREIGN})
    before = folder.ledger.path.read_bytes()
    with pytest.raises(
        UnknownVersion, match=r"ledger.jsonl was written by another version .*adapter.fused.exponent"
    ) as told:
        folder.trials()
    assert "choose another output" in str(told.value)
    assert "\n" not in str(told.value)
    assert folder.ledger.path.read_bytes() == before


def test_so_is_a_final_test(folder: SweepFolder):
    folder.append("final", "f", {"results": [{"choice": FOREIGN}]})
    with pytest.raises(UnknownVersion, match="was written by another version"):
        folder.finals(FinalResult)
