"""A benchmark's config: what it runs, and what it refuses."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from xmadapter.config import BenchmarkConfig, load

CONFIGS = Path(__file__).parents[2] / "pipelines" / "configs"
VALUES = {
    "output": "out",
    "encoders": {"tiny": {"kind": "tiny"}},
    "sets": {"a": {"data": {"kind": "image-folder", "root": "a"}}},
    "methods": [{"adapter": {"kind": "zero-shot"}}, {"adapter": {"kind": "fused"}}],
}


def test_the_published_table_is_eleven_sets_with_two_encoders():
    cells = list(load(BenchmarkConfig, CONFIGS / "coop11" / "coop11.yaml", ()).cells())
    assert len(cells) == 22
    assert all(cell.published is not None for cell in cells)
    assert {cell.tolerance for cell in cells if cell.set != "eurosat"} == {0.5}
    assert len({cell.sweep.output for cell in cells}) == len({cell.encode.output for cell in cells}) == 22
    assert cells[0].sweep.shots == (1, 2, 4, 8, 16)
    assert [method.adapter.kind for method in cells[0].zero_shot.methods] == ["zero-shot"]


def test_the_real_sets_share_everything_but_their_data():
    config = load(BenchmarkConfig, CONFIGS / "benchmark" / "real.yaml", ())
    sweeps = {cell.sweep.model_copy(update={"features": "", "output": "", "experiment": ""}) for cell in config.cells()}
    assert len({sweep.fingerprint for sweep in sweeps}) == 1
    assert config.compared_with == "Fused adapter"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"reference": "Tip"}, "is none of the methods"),
        ({"sets": {"a": VALUES["sets"]["a"] | {"zero_shot": {"RN50": 50}}}}, "zero_shot names the encoder 'RN50'"),
        ({"sets": {"../a": VALUES["sets"]["a"]}}, "String should match pattern"),
        ({"shots": [0]}, "at least 1"),
        ({"seeds": [1, 1]}, "each value once"),
        ({"methods": [{"adapter": {"kind": "tip"}}] * 2}, "two methods are called"),
    ],
)
def test_a_contradiction_is_refused(change: dict[str, object], message: str):
    with pytest.raises(ValidationError, match=message):
        BenchmarkConfig.model_validate(VALUES | change)


def test_the_last_method_is_what_others_are_compared_with_unless_one_is_named():
    assert BenchmarkConfig.model_validate(VALUES).compared_with == "Fused adapter"
    assert BenchmarkConfig.model_validate(VALUES | {"reference": "Zero-shot"}).compared_with == "Zero-shot"
