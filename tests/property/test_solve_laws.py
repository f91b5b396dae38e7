"""`correct_counts` and `solve` against loops, on numbers small enough that no sum rounds."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.factories import law, make_adapter, make_episodes, make_tuning_data
from xmadapter.config import SolveRange, TipConfig, XMAdapterConfig
from xmadapter.evaluation import accuracy
from xmadapter.training import correct_counts, solve

_WHOLE = st.integers(-4, 4).map(float)
_VOTES = st.integers(0, 4).map(float)
_WEIGHTS = st.lists(st.integers(0, 40).map(lambda quarter: quarter / 4), min_size=1, max_size=12).map(sorted)


@st.composite
def tables(draw: st.DrawFn, *, seeds: int, classes: int, rows: int, of: st.SearchStrategy[float]) -> torch.Tensor:
    numbers = draw(st.lists(of, min_size=seeds * rows * classes, max_size=seeds * rows * classes))
    return torch.tensor(numbers).reshape(seeds, rows, classes)


@law
@given(st.data(), _WEIGHTS)
def test_counts_are_those_of_the_loop_over_weights(data: st.DataObject, weights: list[float]) -> None:
    seeds, rows, classes = (
        data.draw(st.integers(1, most), label=name) for name, most in (("seeds", 3), ("rows", 6), ("classes", 5))
    )
    base = data.draw(
        tables(seeds=data.draw(st.sampled_from([1, seeds])), rows=rows, classes=classes, of=_WHOLE), label="base"
    )
    votes = data.draw(tables(seeds=seeds, rows=rows, classes=classes, of=_VOTES), label="votes")
    labels = torch.tensor(
        data.draw(st.lists(st.integers(0, classes - 1), min_size=rows, max_size=rows), label="labels")
    )
    looped = torch.stack([((base + weight * votes).argmax(dim=-1) == labels).sum(dim=-1) for weight in weights], dim=1)
    assert torch.equal(correct_counts(base, votes, labels, torch.tensor(weights)), looped)


@law
@given(
    config=st.sampled_from(
        [TipConfig(), XMAdapterConfig(text_width=2), XMAdapterConfig(ratio="dynamic", text_width=2)]
    ),
    classes=st.integers(2, 5),
    shots=st.integers(1, 5),
    seeds=st.integers(1, 3),
    low=st.sampled_from([0.0, 0.5]),
    points=st.integers(2, 6),
    seed=st.integers(0, 1000),
)
def test_a_solved_table_is_that_of_the_loop_over_points(
    config: TipConfig | XMAdapterConfig, classes: int, shots: int, seeds: int, low: float, points: int, seed: int
) -> None:
    data = make_tuning_data(classes=classes, per_class=5, dim=6, seed=seed)
    episodes = make_episodes(data, shots=shots, seeds=range(seeds))
    adapter = make_adapter(config, data, episodes)
    grid = {
        "cache_weight": SolveRange(low=low, high=20, points=points),
        "sharpness": SolveRange(low=1, high=30, points=points),
    }
    found, looped = solve(adapter, episodes, grid), []
    for setting in found.values.tolist():
        adapter.settle(dict(zip(found.names, setting, strict=True)))
        looped.append(accuracy(adapter(episodes.validation), episodes.validation_labels).numpy())
    assert np.array_equal(found.accuracy, np.stack(looped, axis=1))
