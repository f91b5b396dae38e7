"""LoRA on the linear layers of the MLPs.

Hooks again, and no library: those replace modules, which changes the keys of the encoder's state, and open_clip reads types off
its MLPs. The projections of an `nn.MultiheadAttention` are weights without modules of their own, so that no hook sees them.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from xmadapter.config import LoraConfig
from xmadapter.encoder_adapters.bank import AdapterBank
from xmadapter.encoder_adapters.sites import BranchEnd, align, first_blocks, tower_blocks
from xmadapter.seeding import derive_seed

__all__ = ["LowRank", "attach_lora"]


class LowRank(nn.Module):
    """An update of a linear layer: x A B · alpha / rank, with B zero at the start (Hu et al., ICLR 2022).

    Args:
        config: Rank and scale.
        inputs: Width the layer takes.
        outputs: Width it gives.
        generator: Of A, normal with variance 1 over the inputs.
    """

    def __init__(self, config: LoraConfig, inputs: int, outputs: int, *, generator: torch.Generator) -> None:
        super().__init__()
        self.down = nn.Parameter(torch.randn(inputs, config.rank, generator=generator) * inputs**-0.5)
        self.up = nn.Parameter(torch.zeros(config.rank, outputs))
        self._scale = config.alpha / config.rank

    def forward(self, rows: Float[Tensor, "*axes inputs"]) -> Float[Tensor, "*axes outputs"]:
        """Compute what is added to the layer's output."""
        return rows @ self.down @ self.up * self._scale


def attach_lora(model: nn.Module, config: LoraConfig, *, seed: int) -> AdapterBank:
    """Put an update beside every linear layer of the MLPs, from block `config.first_block` on.

    Raises:
        ConfigError: The model cannot be hooked, or has fewer blocks.
    """
    towers = tower_blocks(model, config.towers)
    layers = {
        f"{tower}-{slot}-{number}": layer
        for slot, blocks in align(towers, first_block=config.first_block).items()
        for tower, block in blocks.items()
        for number, layer in enumerate(block.linears)
    }
    updates = {
        name: LowRank(
            config,
            layer.in_features,
            layer.out_features,
            generator=torch.Generator().manual_seed(derive_seed("lora", seed, name)),
        )
        for name, layer in layers.items()
    }
    bank = AdapterBank(model, updates, first_blocks=first_blocks(towers, first_block=config.first_block))
    for name, layer in layers.items():
        _hook(bank, updates[name], layer)
    return bank


def _hook(bank: AdapterBank, update: LowRank, layer: nn.Linear) -> None:
    inputs = bank.keep(layer)
    bank.add(BranchEnd(layer), lambda _: update(inputs.take()))
