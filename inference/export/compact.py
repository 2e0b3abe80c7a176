"""Store the weights of a generator in 16 bits, in a file that computes in 32."""

import copy
from typing import Any

import torch
from torch import nn

MIN_VALUES = 256  # smaller tensors, such as biases and statistics, keep 32 bits


def rounded(net: nn.Module) -> nn.Module:
    """Return a copy of a network with large weights rounded to numbers of 16 bits; those beyond their range stay."""
    net = copy.deepcopy(net)
    with torch.no_grad():
        for value in net.state_dict().values():
            if value.dtype == torch.float32 and value.numel() >= MIN_VALUES:
                small = value.half().float()
                if small.isfinite().all():
                    value.copy_(small)
    return net


def store_in_16_bits(model: Any) -> None:
    """Change an ONNX model so that its large constants are numbers of 16 bits, which it converts when it is loaded."""
    import numpy as np  # as onnx, which is an extra
    from onnx import TensorProto, helper, numpy_helper

    converted = []
    for tensor in model.graph.initializer:
        if tensor.data_type != TensorProto.FLOAT:
            continue
        values = numpy_helper.to_array(tensor)
        with np.errstate(over="ignore"):
            small = values.astype(np.float16)
        if values.size < MIN_VALUES or not np.isfinite(small).all():
            continue
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(small, f"{name}_16"))
        converted.append(helper.make_node("Cast", [tensor.name], [name], to=TensorProto.FLOAT))
    nodes = [*converted, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
