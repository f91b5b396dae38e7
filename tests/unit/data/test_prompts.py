"""Prompts and class names."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xmadapter.data import clean_class_name, fill_prompts
from xmadapter.errors import ConfigError


def test_prompts_are_by_class_then_template() -> None:
    assert fill_prompts(["a {}.", "the {}."], ["cat", "dog"]) == [["a cat.", "the cat."], ["a dog.", "the dog."]]


def test_braces_in_a_class_name_mean_nothing() -> None:
    assert fill_prompts(["a {}."], ["{0!r} {}"]) == [["a {0!r} {}."]]


@pytest.mark.parametrize("template", ["a photo", "{} and {}", ""])
def test_a_template_needs_one_slot(template: str) -> None:
    with pytest.raises(ConfigError, match="needs exactly one"):
        fill_prompts([template], ["cat"])


@pytest.mark.parametrize(
    ("folder", "name"), [("ankle_boot", "ankle boot"), ("_a__b_", "a b"), ("cafe\u0301", "caf\u00e9")]
)
def test_a_folder_name_becomes_words(folder: str, name: str) -> None:
    assert clean_class_name(folder) == name


@given(st.text())
def test_cleaning_twice_is_cleaning_once(name: str) -> None:
    assert clean_class_name(clean_class_name(name)) == clean_class_name(name)
