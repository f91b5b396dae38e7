"""A device that this machine lacks, played by the CPU: meeting a tensor that lies elsewhere is an error, as it is with CUDA.

Values are computed on the CPU, so what runs on the fake device must equal what runs without it to the last bit.
"""

from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

__all__ = ["CUDA", "FakeCuda"]

CUDA = torch.device("cuda")
_CPU = torch.device("cpu")


class _OnCuda(Tensor):
    """Marks a tensor as lying on the fake device."""


_LEAVE = ("cpu", "tolist", "item", "__float__", "__int__", "__bool__", "__len__", "__repr__", "__format__")
_ACROSS = ("to", "copy_", "__getitem__", "__setitem__", "index_put_", "__get__", "__set__", "backward")
"""What may see tensors of both devices: an index on the CPU is allowed, and so is a copy."""


class FakeCuda(TorchFunctionMode):
    """While active, `device="cuda"` works on a machine without a GPU."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if func == Tensor.device.__get__:
            return CUDA if isinstance(args[0], _OnCuda) else _CPU
        if func is torch._has_compatible_shallow_copy_type:
            return False  # a module that moves gets new parameters
        if name == "_parse_to":
            return func(*args, **kwargs)  # how a module reads the arguments of `to`
        leaves = tree_leaves((args, kwargs))
        tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
        there = [isinstance(tensor, _OnCuda) for tensor in tensors]
        if any(there) and name not in _ACROSS:
            elsewhere = [tensor for tensor, one in zip(tensors, there, strict=True) if not one and tensor.ndim]
            if elsewhere:
                raise RuntimeError(f"{name} meets tensors on two devices")
        if any(there) and name == "numpy" and not kwargs.get("force"):
            raise TypeError("a tensor on cuda has no numpy array; copy it to the CPU first")
        wanted = [leaf for leaf in leaves if _is_device(leaf)]
        with torch._C.DisableTorchFunctionSubclass():
            result = func(*tree_map(_on_cpu, args), **tree_map(_on_cpu, kwargs))
        if name in _LEAVE or name == "numpy":
            return tree_map(_plain, result)
        on_cuda = torch.device(wanted[-1]).type == "cuda" if wanted else _follows(name, tensors, there)
        return tree_map(_marked if on_cuda else _plain, result)


def _follows(name: str, tensors: list[Tensor], there: list[bool]) -> bool:
    """Whether a result lies on the device: where its first operand does, or, for sums of tensors, where any does."""
    if name == "to" and len(tensors) == 2:
        return there[1]
    return there[0] if name in _ACROSS and there else any(there)


def _on_cpu(leaf: Any) -> Any:
    return _CPU if _is_device(leaf) else leaf


def _is_device(leaf: Any) -> bool:
    return isinstance(leaf, torch.device) or (isinstance(leaf, str) and leaf in ("cpu", "cuda"))


def _marked(leaf: Any) -> Any:
    return leaf.as_subclass(_OnCuda) if isinstance(leaf, Tensor) and not isinstance(leaf, _OnCuda) else leaf


def _plain(leaf: Any) -> Any:
    return leaf.as_subclass(Tensor) if type(leaf) is _OnCuda else leaf
