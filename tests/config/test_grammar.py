"""Settings that are mappings take any key: as it is typed, in quotes, and as a message prints it in bash."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampling import slow_after
from slipstream.config import composition, grammar
from slipstream.core.wording import spell, typed
from slipstream.data.messages import kind_setting

TABLE = ("data=table", "data.path=t.csv", "data.target=y")
NAMES = [
    *("rooms", "a.b (c)", "größe", "it's", 'say "hi"', "a=b", "2020", "007", "1.50", "true", "null", "inf"),
    *("x: y, {z}", "[a]", "a\\", "$HOME", "`id`", "100%", "a!b", "-", "€", "a,b", "~x", "C:\\dir\\'x'", "#1"),
]


def composed(*overrides):
    """The section `data` of a composition without problems."""
    plain, problems = composition.screen([*TABLE, *overrides])
    assert not problems
    return plain["data"]


@pytest.mark.parametrize("name", slow_after(3, NAMES))
def test_the_kind_of_any_column_can_be_set(name):
    """What messages advise names the column, whatever letters it has, after bash has taken its quotes."""
    if shutil.which("bash") is None:
        pytest.skip("no bash")
    command = f"printf %s {kind_setting(name, 'category')}"
    word = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True).stdout
    assert composed(word)["kinds"] == {name: "category"}


@pytest.mark.slow
@given(
    st.dictionaries(
        st.text(st.characters(codec="utf-8", exclude_characters="\n\0"), min_size=1), st.floats(1, 9)
    )
)
def test_a_mapping_is_read_as_it_is_spelled(weights):
    """`spell` and the grammar are inverse, keys of any letters included."""
    override = grammar.parsed(f"data.class_weights={spell(weights)}")
    assert override is not None
    assert override.value() == weights
    again = grammar.parsed(f"key={override.get_value_element_as_str()}")
    assert again.value() == weights


@pytest.mark.parametrize(
    ("typed_in", "keys"),
    [
        ("{True: 3, False: 1}", {True: 3, False: 1}),
        ('{"True": 3, "False": 1}', {"True": 3, "False": 1}),
        ("{0: 3, 1.5: 1}", {0: 3, 1.5: 1}),
        ("{null: 3, 'null ': 1}", {"null": 3, "null ": 1}),
        ("{<=50K: 3, >50K: 1}", None),
        ("{'<=50K': 3, '>50K': 1}", {"<=50K": 3, ">50K": 1}),
    ],
)
def test_keys_of_class_weights(typed_in, keys):
    """Keys that look like numbers or truth values are taken; other signs need quotes."""
    if keys is None:
        assert composition.screen([*TABLE, f"data.class_weights={typed_in}"])[1]
    else:
        assert composed(f"data.class_weights={typed_in}")["class_weights"] == keys


def test_keys_need_no_plus():
    """A kind is set as every other setting, and stands beside those of other columns."""
    both = composed("data.kinds.rooms=category", "data.kinds={'a b': ignore}")
    assert both["kinds"] == {"rooms": "category", "a b": "ignore"}
    assert composed("+data.kinds.rooms=category")["kinds"] == {"rooms": "category"}


def test_only_keys_are_taken_out_of_quotes():
    """Quotes elsewhere are Hydra's, in values and in lists in mappings too."""
    text = "data.class_weights={'a: {b': 'c, \"d\": e', f: ['g', \"h\"], \"i\": {'j': 'k'}}"
    value = grammar.parsed(text).value()
    assert value == {"a: {b": 'c, "d": e', "f": ["g", "h"], "i": {"j": "k"}}
    assert grammar.parsed("data.path='{\"a\": 1}'").value() == '{"a": 1}'
    assert typed("data.class_weights", {"True": 3}) == "\"data.class_weights={'True':3}\""
