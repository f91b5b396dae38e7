"""Cross-Modal Adapter: bottlenecks in both towers, part of whose output has the same weights for image and text."""

from collections.abc import Mapping
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn

from xmadapter.config import CrossModalConfig
from xmadapter.encoder_adapters.bank import AdapterBank
from xmadapter.encoder_adapters.bottleneck import activation, drawn_linear, zero_linear
from xmadapter.encoder_adapters.sites import align, first_blocks, tower_blocks
from xmadapter.errors import ConfigError
from xmadapter.seeding import derive_seed

__all__ = ["CrossModalAdapter", "attach_cross_modal"]

_DEVIATION = 0.01  # of every weight, as released


class CrossModalAdapter(nn.Module):
    """The adapters of one place (a slot's attention or MLP) in all towers that reach it.

    A(h) = [z U + b, z S + c] with z = act(h D + d), added to h (Jiang et al., arXiv 2211.09623, section 3). D and U are each
    tower's own; S gives the last `shared` channels of every tower, and no feature crosses between towers.

    Args:
        config: Width of the bottleneck, shared channels, start.
        widths: Of the towers here, by their names. In one tower alone nothing is shared.
        generator: Of the start.

    Raises:
        ConfigError: More channels are shared than the narrower tower has.
    """

    def __init__(self, config: CrossModalConfig, widths: Mapping[str, int], *, generator: torch.Generator) -> None:
        super().__init__()
        shared = config.shared if len(widths) > 1 else 0
        if shared > min(widths.values()):
            raise ConfigError(
                f"shared is {shared}, but the narrower tower has {min(widths.values())} channels; lower it"
            )

        def up(outputs: int) -> nn.Linear:
            if config.init == "zero":
                return zero_linear(config.width, outputs)
            return drawn_linear(config.width, outputs, deviation=_DEVIATION, generator=generator)

        self.down = nn.ModuleDict(
            {
                tower: drawn_linear(width, config.width, deviation=_DEVIATION, generator=generator)
                for tower, width in widths.items()
            }
        )
        self.up = nn.ModuleDict({tower: up(width - shared) for tower, width in widths.items() if width > shared})
        self.shared = up(shared) if shared else None
        self.dropout = nn.Dropout(config.dropout)
        self._activation = activation(config.activation)

    def forward(self, rows: Float[Tensor, "*axes width"], tower: str) -> Float[Tensor, "*axes width"]:
        """Compute what is added to a tower's rows."""
        inner = self.dropout(self._activation(self.down[tower](rows)))
        parts = [self.up[tower](inner)] if tower in self.up else []
        if self.shared is not None:
            parts.append(self.shared(inner))
        return torch.cat(parts, dim=-1)


def attach_cross_modal(model: nn.Module, config: CrossModalConfig, *, seed: int) -> AdapterBank:
    """Put an adapter at the end of both branches of every block from `config.first_block` on.

    Blocks of the deeper tower that have no counterpart share nothing.

    Raises:
        ConfigError: The model cannot be hooked, or the config does not fit its widths and depths.
    """
    towers = tower_blocks(model, config.towers)
    slots = align(towers, first_block=config.first_block)
    adapters = {
        f"{slot}-{branch}": CrossModalAdapter(
            config,
            {tower: block.width for tower, block in blocks.items()},
            generator=torch.Generator().manual_seed(derive_seed("cross-modal", seed, slot, branch)),
        )
        for slot, blocks in slots.items()
        for branch in ("attention", "mlp")
    }
    bank = AdapterBank(model, adapters, first_blocks=first_blocks(towers, first_block=config.first_block))
    for slot, blocks in slots.items():
        for tower, block in blocks.items():
            bank.add(block.attention, partial(adapters[f"{slot}-attention"], tower=tower))
            bank.add(block.mlp, partial(adapters[f"{slot}-mlp"], tower=tower))
    return bank
