"""Values against their kinds: what is right passes, and the first fault is told in one short line."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glowkit import fields
from glowkit.errors import GlowkitError

KINDS = {
    "n": fields.Whole(1, 8),
    "x": fields.Real(0, 10),
    "flip": fields.Flag(),
    "name": fields.Text(),
    "way": fields.OneOf(("left", "right")),
    "list": fields.Names(),
    "more": fields.Table(),
}
RIGHT = {"n": 8, "x": 0.5, "flip": False, "name": "a", "way": "left", "list": ["a", "b"], "more": {}}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)


def test_what_is_right_passes():
    fields.check(RIGHT, KINDS, "", required=KINDS)
    fields.check({"x": 10}, KINDS, "")


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("n", 0, "a whole number from 1 to 8"),
        ("n", 10**30, "a whole number"),
        ("n", True, "a whole number"),
        ("n", 2.0, "a whole number"),
        ("x", float("nan"), "a number from 0 to 10"),
        ("x", float("inf"), "a number"),
        ("x", "1", "a number"),
        ("flip", 1, "true or false"),
        ("name", "", "text"),
        ("way", ["left"], "one of left, right"),
        ("list", [], "a list of different names"),
        ("list", ["a", "a"], "a list of different names"),
        ("more", [], "a table"),
        ("other", 1, "no such setting; there are n, x"),
    ],
)
def test_the_fault_is_named(name, value, says):
    with pytest.raises(GlowkitError, match=f"file: {name}.*{says}"):
        fields.check({**RIGHT, name: value}, KINDS, "file: ")


def test_what_is_missing_is_named():
    with pytest.raises(GlowkitError, match="file: way is missing"):
        fields.check({k: v for k, v in RIGHT.items() if k != "way"}, KINDS, "file: ", required=KINDS)


@given(JSON, st.sampled_from(list(KINDS)))
def test_any_value_passes_or_is_told_in_a_short_line(value, name):
    for values in (value, {name: value}):
        try:
            fields.check(values, KINDS, "")
        except GlowkitError as error:
            assert len(str(error)) < 150 and "\n" not in str(error)


@pytest.mark.parametrize("text", ["[" * 100_000, "NaN", "-Infinity", "9" * 5000, "{", b"\xff", ""])
def test_json_is_a_value_or_a_value_error(text):
    with pytest.raises(ValueError):
        fields.from_json(text)
