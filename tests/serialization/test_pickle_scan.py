"""A pickle is judged by everything it would build, also by what it hides or changes later."""

import io

import pytest
import torch

from serialization.pickle_scan import PickleScan
from serialization.pickle_types import UnsafeFile
from tests.support import malicious_checkpoints as hostile
from tests.support.malicious_checkpoints import HOOKS, call, ints, name, number, tensor, text, weights

META = call("torch._utils._rebuild_meta_tensor_no_storage", name("torch.float32"), ints(2**60), ints(1), b"\x89")
KEPT, AGAIN = b"q\x01", b"h\x01"  # store the top of the stack in the memo, and push it again
JUNK = b"K\x01K\x01s"  # {1: 1} into the dictionary on top of the stack

HIDDEN = {  # how it is hidden: (pickle, why it is refused)
    "a value that another replaces": (
        weights(text("x"), META, text("x"), number(1)), "has a value that is not a dense tensor"),
    "a value that another replaces later": (
        b"\x80\x02}" + text("x") + META + b"s" + text("x") + number(1) + b"s.", "is not a dense tensor"),
    "hooks that are filled later": (
        weights(text("x"), tensor(hooks=HOOKS + KEPT), text("y"), AGAIN + JUNK), "has a tensor with attributes"),
    "attributes that are filled later": (
        b"\x80\x02" + HOOKS + b"}" + text("_metadata") + b"}" + KEPT + b"sb" + text("x") + AGAIN + JUNK + b"s.",
        "holds attributes"),
    "attributes that are replaced later": (
        b"\x80\x02" + HOOKS + b"}" + KEPT + text("_metadata") + b"K\x01sb" + text("x") + AGAIN + text("_metadata")
        + b"}ss.", "holds attributes"),
    "a value that the counted dictionary loses later": (
        weights(text("x"), name("collections.Counter") + b"}" + KEPT + text("y") + name("collections.OrderedDict")
                + b"s\x85R", text("z"), AGAIN + text("y") + b"K\x01s"), "Python objects"),
    "the size of a bytearray as a tensor": (
        weights(text("x"), call("builtins.bytearray", tensor((), ()))), "values of the wrong kind"),
    "a list in a list that it holds": (
        b"\x80\x02]" + KEPT + b"]" + AGAIN + b"aa.", "contains itself"),
}  # fmt: skip


def scan(pickled):
    return PickleScan(io.BytesIO(pickled))


@pytest.mark.parametrize("how", HIDDEN)
def test_what_is_hidden_in_a_pickle_is_refused(how):
    pickled, why = HIDDEN[how]
    with pytest.raises(UnsafeFile, match=why):
        scan(pickled)


def test_the_scan_gives_what_the_pickle_would_build():
    found = scan(weights(text("numbers"), b"](K\1K\2e", text("more"), b"}" + text("a") + b"NsK\3\x86"))
    assert found.root["numbers"] == [1, 2] and found.root["more"] == ({"a": None}, 3)
    assert found.storages["0"].numel == 4 and found.nbytes == len(hostile.FLOATS) and found.claimed_bytes == 16


def test_a_state_dicts_own_attributes_are_accepted(tmp_path):
    net = torch.nn.Sequential(torch.nn.Conv2d(1, 1, 1), torch.nn.BatchNorm2d(1))
    torch.save(net.state_dict(), tmp_path / "x.pth", _use_new_zipfile_serialization=False)
    stream = io.BytesIO((tmp_path / "x.pth").read_bytes())
    for _ in range(3):  # the two numbers and the facts on the machine before it
        root = PickleScan(stream).root
    assert isinstance(root, dict)
    assert list(PickleScan(stream, legacy=True).root) == list(net.state_dict())
