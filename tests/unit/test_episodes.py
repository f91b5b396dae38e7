"""Which images are the shots."""

import numpy as np
import pytest

from tests.factories import make_episodes, make_tuning_data
from xmadapter.episodes import sample_episode
from xmadapter.errors import EpisodeError
from xmadapter.features import FeatureSet, TuningData


def chosen_ids(data: TuningData, **draw: int | bool) -> set[str]:
    return {data.train.ids[row] for row in sample_episode(data, **draw).support}


def with_train(data: TuningData, rows: np.ndarray) -> TuningData:
    return TuningData(
        data.protocol, data.train.take(rows), data.validation, data.text, data.logit_scale, data.provenance
    )


def test_every_class_gives_the_same_number_of_shots():
    episode = sample_episode(data := make_tuning_data(classes=4, per_class=9), shots=5, seed=1)
    assert data.train.labels[episode.support].tolist() == [label for label in range(4) for _ in range(5)]
    assert len(set(episode.support.tolist())) == 20


def test_support_comes_from_training_and_validation_from_validation_images():
    episode = sample_episode(data := make_tuning_data(), shots=3, seed=1)
    assert all(data.train.ids[row].startswith("train/") for row in episode.support)
    assert all(data.validation.ids[row].startswith("validation/") for row in episode.validation)


def test_row_order_does_not_change_a_draw():
    data = make_tuning_data(per_class=8)
    shuffled = with_train(data, np.random.default_rng(0).permutation(len(data.train)))
    assert chosen_ids(shuffled, shots=3, seed=2) == chosen_ids(data, shots=3, seed=2)


def test_other_classes_do_not_change_a_draw():
    few, many = make_tuning_data(classes=2), make_tuning_data(classes=5)
    kept = {name for name in chosen_ids(many, shots=3, seed=1) if name.split("/")[1] in "01"}
    assert kept == chosen_ids(few, shots=3, seed=1)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_four_shots_contain_two_of_the_same_seed(seed: int):
    data = make_tuning_data(per_class=9)
    assert chosen_ids(data, shots=2, seed=seed) < chosen_ids(data, shots=4, seed=seed)


def test_another_seed_is_another_draw():
    data = make_tuning_data(per_class=20)
    assert chosen_ids(data, shots=4, seed=1) != chosen_ids(data, shots=4, seed=2)


@pytest.mark.parametrize(("shots", "per_class"), [(1, 1), (2, 2), (4, 4), (5, 4), (6, 4)])
def test_few_shot_validation_takes_at_most_four_images_a_class(shots: int, per_class: int):
    data = make_tuning_data(classes=3)
    assert len(sample_episode(data, shots=shots, seed=1).validation) == 3 * per_class


def test_full_validation_takes_every_image_whatever_the_shots():
    data = make_tuning_data(per_class=7, protocol="full-val")
    episode = sample_episode(data, shots=1, seed=1)
    assert sorted(episode.validation.tolist()) == list(range(21))


def test_too_few_images_name_the_classes_the_shots_and_what_to_do():
    data = make_tuning_data(per_class=6)
    short = with_train(data, np.flatnonzero(~np.isin(data.train.ids, ["train/1/0", "train/1/1"])))
    with pytest.raises(
        EpisodeError,
        match=r"5 training images a class are needed; class 1 has 4; lower `shots` to 4, or set `short_classes: take-all`, or add",
    ) as caught:
        sample_episode(short, shots=5, seed=1)
    assert "class 0" not in str(caught.value)


def test_where_all_may_be_taken_a_short_class_gives_what_it_has():
    data = make_tuning_data(per_class=6)
    short = with_train(data, np.flatnonzero(~np.isin(data.train.ids, ["train/1/0", "train/1/1"])))
    episode = sample_episode(short, shots=5, seed=1, take_all=True)
    assert short.train.labels[episode.support].tolist() == [0] * 5 + [1] * 4 + [2] * 5
    assert chosen_ids(data, shots=5, seed=1) - {"train/1/0", "train/1/1"} <= chosen_ids(
        short, shots=5, seed=1, take_all=True
    )


def test_even_then_every_class_needs_one_training_image():
    data = make_tuning_data(per_class=2)
    bare = with_train(data, np.flatnonzero(data.train.labels != 1))
    with pytest.raises(EpisodeError, match="1 training images a class are needed; class 1 has 0; add images"):
        sample_episode(bare, shots=2, seed=1, take_all=True)


def test_a_class_without_validation_images_is_not_asked_about():
    data = make_tuning_data(per_class=6)
    validation = with_rows(data.validation, 6)
    keep = np.flatnonzero(validation.labels != 2)
    lacking = TuningData("fewshot-val", data.train, validation.take(keep), data.text, data.logit_scale, data.provenance)
    episode = sample_episode(lacking, shots=3, seed=1, take_all=True)
    assert lacking.validation.labels[episode.validation].tolist() == [0] * 3 + [1] * 3


def test_too_few_validation_images_are_told_as_such():
    data = make_tuning_data(per_class=6)
    lacking = TuningData(
        "fewshot-val", data.train, with_rows(data.validation, 2), data.text, data.logit_scale, data.provenance
    )
    with pytest.raises(EpisodeError, match="3 validation images a class are needed; class 0 has 2"):
        sample_episode(lacking, shots=3, seed=1)


def with_rows(rows: FeatureSet, per_class: int) -> FeatureSet:
    return rows.take(np.array([row for row, name in enumerate(rows.ids) if int(name.rpartition("/")[2]) < per_class]))


def test_stacked_episodes_hold_the_rows_that_were_drawn():
    episodes = make_episodes(data := make_tuning_data(), shots=2, seeds=(3, 5))
    for place, seed in enumerate((3, 5)):
        drawn = sample_episode(data, shots=2, seed=seed)
        assert np.array_equal(episodes.views[place].numpy(), data.train.features[drawn.support])
        assert np.array_equal(episodes.norms[place].numpy(), data.train.norms[drawn.support])
        assert np.array_equal(episodes.validation[place].numpy(), data.validation.features[drawn.validation][:, 0])
    assert episodes.labels.tolist() == [0, 0, 1, 1, 2, 2]
