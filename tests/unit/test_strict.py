"""What a stranger's YAML and JSON may hold."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.factories import law
from xmadapter.errors import ConfigError, IntegrityError
from xmadapter.strict import MAX_BYTES, parse_json, parse_yaml, read_yaml


def test_a_plain_document_is_read():
    text = "a: 1\nb: [1.5, yes, null, text]\nc: {d: 'x'}\n"
    assert parse_yaml(text) == {"a": 1, "b": [1.5, True, None, "text"], "c": {"d": "x"}}


REFUSED = {
    "a duplicate key": ("a: 1\nb: 2\na: 3", "line 1: key 'a' appears twice"),
    "a nested duplicate key": ("x:\n  a: 1\n  a: 1", "line 2: key 'a' appears twice"),
    "an alias": ("a: &x [1]\nb: *x", "aliases"),
    "an alias bomb": ("a: &a [1,1]\nb: &b [*a,*a]\nc: &c [*b,*b]\nd: [*c,*c]", "aliases"),
    "a merge key": ("a: &x {b: 1}\nc:\n  <<: *x", "aliases"),
    "a python tag": ("a: !!python/object/apply:os.system ['true']", "tag"),
    "a text tag": ("a: !!str 5", "tag"),
    "a set": ("a: !!set {b, c}", "tag"),
    "bytes": ("a: !!binary aGk=", "tag"),
    "a tag with a wrong value": ("a: !!int abc", "tag"),
    "a timestamp with a wrong value": ("a: !!timestamp abc", "tag"),
    "an own tag": ("a: !mine 5", "tag"),
    "NaN": ("a: .nan", "nan is not a finite number"),
    "infinity": ("a: [-.inf]", "-inf is not a finite number"),
    "a number that overflows": ("a: 1.0e+999", "inf is not a finite number"),
    "a number key": ("1: a", "keys are text, got 1"),
    "a truth value as key": ("yes: a", "keys are text, got True"),
    "a null key": ("~: a", "keys are text, got None"),
    "a list as key": ("? [a]\n: 1", "keys are text"),
    "a date": ("a: 2026-11-01", "quote it"),
    "a time": ("a: 2026-11-01 10:00:00", "quote it"),
    "a date that is none": ("a: 2026-13-45", ""),
    "a number of 5,000 digits": ("a: " + "9" * 5000, ""),
    "two documents": ("a: 1\n---\nb: 2", "single document"),
    "an open bracket": ("a: [1", "line 1"),
    "a control character": ("a: \x07", "special characters"),
}


@pytest.mark.parametrize(("text", "reason"), REFUSED.values(), ids=REFUSED)
def test_a_surprise_is_refused(text: str, reason: str):
    with pytest.raises(ConfigError) as caught:
        parse_yaml(text)
    assert reason in str(caught.value)


@pytest.mark.parametrize("depth", [21, 100, 1_000, 20_000])
@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ("{a: ", "}")])
def test_deep_nesting_is_refused(depth: int, opening: str, closing: str):
    with pytest.raises(ConfigError, match="nested deeper than 20"):
        parse_yaml(opening * depth + "1" + closing * depth)


def test_twenty_levels_are_allowed():
    assert parse_yaml("[" * 20 + "1" + "]" * 20)


def test_too_many_bytes_are_refused():
    with pytest.raises(ConfigError, match=f"over {MAX_BYTES} bytes"):
        parse_yaml("a: " + "x" * MAX_BYTES)


def test_a_file_is_named_in_every_refusal(tmp_path):
    path = tmp_path / "config.yaml"
    with pytest.raises(ConfigError, match=r"cannot read .*config\.yaml: No such file"):
        read_yaml(path)
    for data in (b"a: 1\na: 2", b"\xff\xfe\x00", b"a: .nan"):
        path.write_bytes(data)
        with pytest.raises(ConfigError, match=r"config\.yaml"):
            read_yaml(path)
    with pytest.raises(ConfigError, match="cannot read"):
        read_yaml(tmp_path)


@law
@given(st.text(max_size=60))
def test_any_text_is_a_value_or_a_config_error(text: str):
    with suppress(ConfigError):
        parse_yaml(text)


_TOKENS = st.sampled_from(
    [
        "a",
        "1",
        ": ",
        "- ",
        "[",
        "]",
        "{",
        "}",
        "&x ",
        "*x",
        "!!int ",
        "!!set ",
        "\n",
        "  ",
        "? ",
        "2026-02-31",
        "<<",
        "~",
        "'",
        "|",
        ">",
    ]
)


@law
@given(st.lists(_TOKENS, max_size=25).map("".join))
def test_any_heap_of_yaml_tokens_is_a_value_or_a_config_error(text: str):
    with suppress(ConfigError):
        parse_yaml(text)


@pytest.mark.parametrize(
    "text",
    [
        '{"a": 1, "a": 1}',
        '{"a": NaN}',
        "[Infinity]",
        "[-Infinity]",
        "[1e999]",
        "{",
        "",
        b"\xff",
        "[" * 100_000,
        "[1" + "0" * 5000 + "]",
    ],
)
def test_json_with_a_surprise_is_refused(text: str | bytes):
    with pytest.raises(IntegrityError, match="not valid JSON"):
        parse_json(text)


def test_plain_json_is_read():
    assert parse_json('{"a": [1, 2.5, null, true, "ä"]}') == {"a": [1, 2.5, None, True, "ä"]}
