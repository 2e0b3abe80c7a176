"""A Spec with fields of one's own is stored as JSON and comes back as it was, or is refused before training."""

import json
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch

from data.spec import MAX_OWN_CHARACTERS, Spec, own_fields, with_own_fields
from util.errors import OptionError

PLAIN = Spec(3, 1, 8, 9, ("a", "b"), "0,255 uint8")


@dataclass(frozen=True)
class Facts(Spec):
    things: Any = None
    more: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class OtherFacts(Spec):
    things: int = 0


VALUES = [None, True, 3, -0.5, float("inf"), "text", [1, [2]], (1, (2.5, "x"), [()]), {"tuple": [1]}, np.int64(7),
          {"a": {"dict": (1,)}}, np.float32(0.5)]  # fmt: skip


@pytest.mark.parametrize("value", VALUES, ids=str)
def test_fields_come_back_as_they_were(value):
    spec = Facts(**vars(PLAIN), things=value, more={"inside": value})
    table = json.loads(json.dumps(own_fields(spec)))
    again = with_own_fields(PLAIN, table)
    assert type(again) is Facts and again == spec
    assert type(again.things) in (type(value), int, float)


@pytest.mark.parametrize(("value", "words"), [
    ({1, 2}, "is a set"), (torch.ones(2), "is a Tensor"), (np.ones(2), "is a ndarray"), ([b"x"], "is a bytes"),
    ({1: 2}, "a dictionary whose keys are no texts"), (len, "is a builtin"), (PLAIN, "is a Spec"),
    ("x" * MAX_OWN_CHARACTERS, "characters, more than")])  # fmt: skip
def test_what_json_cannot_hold_is_named(value, words):
    with pytest.raises(OptionError, match=words) as caught:
        own_fields(Facts(**vars(PLAIN), things=value))
    assert "Facts" in str(caught.value) and "\n" not in str(caught.value)


def test_a_plain_spec_stores_nothing_of_its_own():
    assert own_fields(PLAIN) == {}
    with pytest.raises(OptionError, match=r"its spec\(\) returns a dict, not a Spec"):
        own_fields({"input_nc": 3})


def test_a_class_inside_a_function_is_refused():
    @dataclass(frozen=True)
    class Hidden(Spec):
        n: int = 1

    with pytest.raises(OptionError, match="Hidden is defined inside a function or class; move it out"):
        own_fields(Hidden(**vars(PLAIN)))


def test_values_are_the_runs_and_new_fields_the_datas():
    table = own_fields(Facts(**vars(PLAIN), things=5))
    del table["fields"]["more"]
    table["fields"]["gone"] = 1
    here = Facts(1, 1, 4, 4, things=6, more={"new": 1})
    assert with_own_fields(here, table) == Facts(1, 1, 4, 4, things=5, more={"new": 1})
    assert with_own_fields(OtherFacts(1, 1, 4, 4, things=6), table) == Facts(1, 1, 4, 4, things=5)


def test_a_class_that_nothing_defines_is_named():
    table = own_fields(Facts(**vars(PLAIN)))
    assert type(with_own_fields(PLAIN, table | {"module": "ganvas_plugin_moved_00000000"})) is Facts
    with pytest.raises(OptionError, match="plug-in 'mine': no plug-in in use defines Lost, the Spec"):
        with_own_fields(PLAIN, table | {"class": "Lost", "plug_in": "mine"})
