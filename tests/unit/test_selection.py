"""Which trial wins."""

import pytest

from tests.factories import make_result
from xmadapter.errors import ConfigError
from xmadapter.selection import choose, select_best


def test_the_highest_mean_over_seeds_wins():
    low, high = make_result(validation=(0.9, 0.1)), make_result(validation=(0.6, 0.6))
    assert select_best([low, high]) == select_best([high, low]) == [high]


def test_among_equals_the_one_with_fewer_parameters_wins():
    large, small = make_result(trained_parameters=100), make_result(trained_parameters=10)
    assert select_best([large, small]) == select_best([small, large]) == [small]


def test_among_full_equals_the_earlier_wins():
    first, second = make_result(seconds=1), make_result(seconds=2)
    assert select_best([first, second]) == [first]


def test_one_result_per_method_and_shot_count_in_order():
    results = [make_result(method=method, shots=shots) for method in ("b", "a") for shots in (4, 1)] * 2
    assert [(result.method, result.shots) for result in select_best(results)] == [
        ("b", 1),
        ("b", 4),
        ("a", 1),
        ("a", 4),
    ]


def test_choosing_takes_the_largest_shots_then_the_best_validation():
    results = [
        make_result(shots=1, validation=(0.9, 0.9)),
        make_result(shots=4),
        make_result(method="x", shots=4, validation=(0.7, 0.7)),
    ]
    assert choose(results, method=None, shots=None) == results[2]
    assert choose(results, method="Tip-Adapter", shots=None) == results[1]
    assert choose(results, method=None, shots=1) == results[0]


@pytest.mark.parametrize("wish", [{"method": "none", "shots": None}, {"method": None, "shots": 8}])
def test_a_choice_that_is_not_there_lists_what_is(wish: dict[str, object]):
    with pytest.raises(ConfigError, match="there are Tip-Adapter at 2"):
        choose([make_result()], **wish)


def test_nothing_to_choose_from_is_no_result():
    assert select_best([]) == []
