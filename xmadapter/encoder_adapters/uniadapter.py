"""UniAdapter: bottlenecks beside the MLPs, with one way down for all modalities and a way up for each."""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from xmadapter.config import UniAdapterConfig
from xmadapter.encoder_adapters.bank import AdapterBank
from xmadapter.encoder_adapters.bottleneck import drawn_linear, zero_linear
from xmadapter.encoder_adapters.sites import Block, FusionBlock, align, first_blocks, fusion_blocks, tower_blocks
from xmadapter.seeding import derive_seed

__all__ = ["UniAdapter", "attach_uniadapter"]


class UniAdapter(nn.Module):
    """The adapters of one slot, for all modalities of one width.

    With h(x) = relu(LN(x) D + b), an image or a text adds A(x) = s (h(x) U + c), with a U and c for each; a text that has
    attended to an image adds A_M(x) = s (h(x) U_M + c_M + h(x) U_T + c_T) to that (Lu et al., ICLR 2024).

    Args:
        config: Width of the bottleneck, scale, normalisation.
        modalities: Among `image`, `text` and `fusion`; the last needs `text` beside it.
        width: Of their towers.
        generator: Of the way down; all ways up start at zero.
    """

    def __init__(
        self, config: UniAdapterConfig, modalities: Sequence[str], width: int, *, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.config = config
        self.norm = nn.LayerNorm(width)
        # Kaiming's draw for a ReLU: the bottleneck has the variance of what enters it.
        self.down = drawn_linear(width, config.width, deviation=(2 / width) ** 0.5, generator=generator)
        self.up = nn.ModuleDict({modality: zero_linear(config.width, width) for modality in modalities})

    def forward(self, rows: Float[Tensor, "*axes width"], modality: str) -> Float[Tensor, "*axes width"]:
        """Compute what an image or a text adds: A_V or A_T."""
        return self.config.scale * self.up[modality](self._inner(rows))

    def fuse(self, rows: Float[Tensor, "*axes width"]) -> Float[Tensor, "*axes width"]:
        """Compute what a text adds after it attended to an image: A_M."""
        inner = self._inner(rows)
        if self.config.normalise == "before":
            inner = F.layer_norm(inner, inner.shape[-1:])
        added = self.up["fusion"](inner) + self.up["text"](inner)
        if self.config.normalise == "after":
            added = F.layer_norm(added, added.shape[-1:])
        return self.config.scale * added

    def _inner(self, rows: Float[Tensor, "*axes width"]) -> Float[Tensor, "*axes inner"]:
        return F.relu(self.down(self.norm(rows)))


def attach_uniadapter(model: nn.Module, config: UniAdapterConfig, *, seed: int) -> AdapterBank:
    """Put an adapter beside the MLP of every block from `config.first_block` on.

    Towers of one width share their way down in each slot. Where the image tower is of another width, as in CoCa, it has its own.

    Raises:
        ConfigError: The model cannot be hooked, or has no decoder where one is asked for.
    """
    towers: dict[str, tuple[Block | FusionBlock, ...]] = {
        **tower_blocks(model, "both" if config.towers == "all" else config.towers)
    }
    if config.towers == "all":
        towers["fusion"] = fusion_blocks(model)
    adapters: dict[str, nn.Module] = {}
    places: list[tuple[UniAdapter, str, Block | FusionBlock]] = []
    for slot, blocks in align(towers, first_block=config.first_block).items():
        for width, modalities in _by_width(blocks).items():
            name = "-".join([str(slot), *modalities])
            generator = torch.Generator().manual_seed(derive_seed("uniadapter", seed, name))
            adapter = UniAdapter(config, modalities, width, generator=generator)
            adapters[name] = adapter
            places += [(adapter, modality, blocks[modality]) for modality in modalities if modality in blocks]
    bank = AdapterBank(model, adapters, first_blocks=first_blocks(towers, first_block=config.first_block))
    for adapter, modality, block in places:
        _hook(bank, adapter, modality, block)
    return bank


def _by_width(blocks: Mapping[str, Block | FusionBlock]) -> dict[int, list[str]]:
    """Group modalities by the width of their towers; fusion brings text along, whose way up it uses."""
    groups: dict[int, list[str]] = {}
    for modality, block in blocks.items():
        group = groups.setdefault(block.width, [])
        if modality == "fusion" and "text" not in group:
            group.append("text")
        group.append(modality)
    return groups


def _hook(bank: AdapterBank, adapter: UniAdapter, modality: str, block: Block | FusionBlock) -> None:
    between = bank.keep(block.between)
    match block:
        case Block():
            bank.add(block.beside, lambda _: adapter(between.take(), modality))
        case FusionBlock():
            # The residual of the query: the text adds what it would have added before it attended to the image.
            query = bank.keep(block.query)
            bank.add(block.end, lambda _: adapter(query.take(), "text") + adapter.fuse(between.take()))
