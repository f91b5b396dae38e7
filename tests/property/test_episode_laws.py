"""What holds of every draw of shots."""

from hypothesis import given
from hypothesis import strategies as st

from tests.factories import law, make_tuning_data
from xmadapter.episodes import sample_episode
from xmadapter.features import FeatureSet, TuningData


def shuffled(data: TuningData, order: list[int]) -> TuningData:
    train = data.train
    rows = FeatureSet(
        train.features[order], train.norms[order], train.labels[order], tuple(train.ids[row] for row in order)
    )
    return TuningData(data.protocol, rows, data.validation, data.text, data.logit_scale, data.provenance)


def drawn(data: TuningData, shots: int, seed: int) -> list[str]:
    return [data.train.ids[row] for row in sample_episode(data, shots=shots, seed=seed).support]


@law
@given(st.integers(1, 5), st.integers(1, 7), st.integers(-1000, 1000))
def test_a_draw_is_balanced_and_without_repeats(classes: int, shots: int, seed: int) -> None:
    data = make_tuning_data(classes=classes, per_class=7, dim=2, views=1)
    episode = sample_episode(data, shots=shots, seed=seed)
    assert data.train.labels[episode.support].tolist() == [label for label in range(classes) for _ in range(shots)]
    assert data.validation.labels[episode.validation].tolist() == [
        label for label in range(classes) for _ in range(min(shots, 4))
    ]
    assert len(set(episode.support.tolist())) == classes * shots


@law
@given(st.permutations(range(18)), st.integers(1, 6), st.integers(0, 1000))
def test_the_order_of_rows_changes_no_draw(order: list[int], shots: int, seed: int) -> None:
    data = make_tuning_data(dim=2, views=1)
    assert drawn(shuffled(data, order), shots, seed) == drawn(data, shots, seed)


@law
@given(st.integers(1, 5), st.integers(0, 1000))
def test_more_shots_contain_fewer(shots: int, seed: int) -> None:
    data = make_tuning_data(dim=2, views=1)
    assert set(drawn(data, shots, seed)) < set(drawn(data, shots + 1, seed))
