"""Prompts and class names."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xmadapter.data import clean_class_name


@pytest.mark.parametrize(
    ("folder", "name"), [("ankle_boot", "ankle boot"), ("_a__b_", "a b"), ("cafe\u0301", "caf\u00e9")]
)
def test_a_folder_name_becomes_words(folder: str, name: str) -> None:
    assert clean_class_name(folder) == name


@given(st.text())
def test_cleaning_twice_is_cleaning_once(name: str) -> None:
    assert clean_class_name(clean_class_name(name)) == clean_class_name(name)
