"""What bottlenecks are made of: layers that start at zero or at a draw, and activations."""

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

__all__ = ["activation", "drawn_linear", "quick_gelu", "zero_linear"]


def quick_gelu(values: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Approximate GELU as CLIP does: x·sigmoid(1.702 x)."""
    return values * torch.sigmoid(1.702 * values)


def activation(
    name: Literal["quick-gelu", "gelu", "relu"],
) -> Callable[[Float[Tensor, "*shape"]], Float[Tensor, "*shape"]]:
    """Choose an activation by the name it has in a config."""
    return {"quick-gelu": quick_gelu, "gelu": F.gelu, "relu": F.relu}[name]


def zero_linear(inputs: int, outputs: int) -> nn.Linear:
    """Make a float32 layer of zeros: what it ends adds nothing at the start."""
    layer = nn.Linear(inputs, outputs, device="meta", dtype=torch.float32)  # draws nothing from the global generator
    layer.to_empty(device="cpu")
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


def drawn_linear(inputs: int, outputs: int, *, deviation: float, generator: torch.Generator) -> nn.Linear:
    """Make a float32 layer with normal weights and biases of zero.

    Args:
        inputs: Width it takes.
        outputs: Width it gives.
        deviation: Standard deviation of the weights.
        generator: On the CPU, so that a seed means the same draw on every device.
    """
    layer = zero_linear(inputs, outputs)
    with torch.no_grad():
        layer.weight.normal_(0, deviation, generator=generator)
    return layer
