"""A stand-in for CUDA graphs on a CPU: operations are recorded with their tensors, and repeated on the same tensors."""

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Tape(TorchDispatchMode):
    """Records operations as a CUDA graph does: Python and values of the host are those of the recording.

    Like a capture it changes nothing: tensors that were there before are restored at its end, and so is the generator,
    whose numbers a replay draws. Reading a value raises an error.
    """

    def __init__(self):
        super().__init__()
        self.calls, self.made, self.kept = [], set(), {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.name().removeprefix("aten::").split(".")[0]
        if name == "_local_scalar_dense":
            raise RuntimeError("operation not permitted when stream is capturing")
        inputs = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        writes = func._schema.is_mutable or name == "native_batch_norm"  # whose schema does not name its statistics
        for x in inputs if writes else ():
            where = x.untyped_storage().data_ptr()
            if where not in self.made and where not in self.kept:
                self.kept[where] = x.untyped_storage(), x.untyped_storage().clone()
        out = func(*args, **(kwargs or {}))
        made = [x for x in tree_leaves(out) if isinstance(x, Tensor)]
        own = {x.untyped_storage().data_ptr() for x in inputs}
        new = [x for x in made if x.untyped_storage().data_ptr() not in own]
        self.made |= {x.untyped_storage().data_ptr() for x in new}
        if name in ("empty", "new_empty"):  # a capture never reads what is there
            return out.zero_()
        if writes or new:
            self.calls.append((func, args, kwargs or {}, out))
        return out

    def replay(self):
        with torch.no_grad():
            for func, args, kwargs, out in self.calls:
                again = func(*args, **kwargs)
                for old, new in zip(tree_leaves(out), tree_leaves(again), strict=True):
                    if isinstance(old, Tensor) and old is not new and old.data_ptr() != new.data_ptr():
                        old.copy_(new)


def tape_capture(draws_on_device=True):
    """Return what stands in for the capture of CUDA graphs; draws_on_device: torch's numbers are those of a device."""
    tapes = []

    def capture(function):
        tape, generator = Tape(), torch.get_rng_state()
        try:
            with tape:
                function()
        finally:
            for storage, values in tape.kept.values():
                storage.copy_(values)
        if draws_on_device:
            torch.set_rng_state(generator)
        tapes.append(tape)
        return tape.replay

    capture.tapes = tapes
    return capture
