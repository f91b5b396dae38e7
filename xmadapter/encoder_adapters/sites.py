"""Where a tower can be hooked: the ends of a block's residual branches, whoever wrote the block."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from xmadapter.config.encoder_adapters import Towers
from xmadapter.errors import ConfigError

__all__ = ["Block", "BranchEnd", "FusionBlock", "align", "first_blocks", "fusion_blocks", "tower_blocks"]

AnyBlock = TypeVar("AnyBlock")


@dataclass(frozen=True)
class BranchEnd:
    """The last module of a residual branch: one tensor in, one tensor out.

    Args:
        module: What is hooked; it comes after the projection and after any layer scale, which would mute what is added before.
        side: Which of its tensors is changed. A timm block's drop-path has to drop the addition with the branch: its input.
    """

    module: nn.Module
    side: Literal["input", "output"] = "output"

    def change(self, function: Callable[[Tensor], Tensor]) -> RemovableHandle:
        """Replace the branch's result by a function of it, until the handle is removed."""

        def change_input(_: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
            return (function(inputs[0]), *inputs[1:])

        def change_output(_: nn.Module, __: tuple[Any, ...], output: Tensor) -> Tensor:
            return function(output)

        if self.side == "input":
            return self.module.register_forward_pre_hook(change_input)
        return self.module.register_forward_hook(change_output)


@dataclass(frozen=True)
class Block:
    """One transformer block.

    Args:
        attention: End of the attention branch.
        mlp: End of the MLP branch.
        between: Module whose input is the state between the two branches.
        beside: Where something computed beside the MLP is added. It is `mlp`, save in BERT, which normalises after adding.
        linears: Linear layers of the MLP; the last one leads back to the width of the tower.
    """

    attention: BranchEnd
    mlp: BranchEnd
    between: nn.Module
    beside: BranchEnd
    linears: tuple[nn.Linear, ...]

    @property
    def width(self) -> int:
        """Width of the tower."""
        return self.linears[-1].out_features


@dataclass(frozen=True)
class FusionBlock:
    """One cross-attention block of CoCa's decoder.

    Args:
        query: Module whose input is the text before it attends to the image.
        between: Module whose input is the state after that.
        end: End of the MLP branch.
        width: Width of the decoder.
    """

    query: nn.Module
    between: nn.Module
    end: BranchEnd
    width: int


def tower_blocks(model: nn.Module, towers: Towers) -> dict[str, tuple[Block, ...]]:
    """Find the blocks of the towers asked for, as `image` and `text`.

    Hosts are open_clip's own ViT and text transformer, ViT-like towers of timm, and BERT-like ones and T5 of transformers.

    Raises:
        ConfigError: A tower has no blocks that can be hooked, as a convolutional one; or the model is compiled.
    """
    if type(model).__module__.startswith("torch.jit"):
        raise ConfigError("a compiled torch.jit model cannot be adapted; name the architecture and its weights instead")
    found: dict[str, tuple[Block, ...]] = {}
    if towers != "text":
        visual = getattr(model, "visual", None)
        holder = getattr(visual, "trunk", None) or getattr(visual, "transformer", None)
        blocks = _list(holder, "resblocks") or _list(holder, "blocks")
        found["image"] = _hookable(blocks, tower="image", kind=type(holder or visual).__name__)
    if towers != "image":
        # A CLIP holds its text tower in its root, all others in `text`.
        holder = getattr(getattr(model, "text", model), "transformer", None)
        blocks = (
            _list(holder, "resblocks") or _list(holder, "block") or _list(getattr(holder, "encoder", None), "layer")
        )
        found["text"] = _hookable(blocks, tower="text", kind=type(holder).__name__)
    return found


def fusion_blocks(model: nn.Module) -> tuple[FusionBlock, ...]:
    """Find the cross-attention blocks of CoCa's decoder.

    Raises:
        ConfigError: The model has no decoder.
    """
    blocks = _list(getattr(model, "text_decoder", None), "cross_attn")
    if not blocks:
        raise ConfigError(f"{type(model).__name__} has no decoder with cross-attention; set towers to both")
    return tuple(FusionBlock(one, one.ln_2, BranchEnd(one.ls_2), one.mlp.c_proj.out_features) for one in blocks)


def align(towers: Mapping[str, Sequence[AnyBlock]], *, first_block: int) -> dict[int, dict[str, AnyBlock]]:
    """Put towers side by side, their last blocks in the same slot.

    Args:
        towers: Blocks of each tower, by its name.
        first_block: The first slot that is taken; slots count from 0 in the deepest tower.

    Returns:
        The blocks in each slot; the lower slots lack the shallower towers.

    Raises:
        ConfigError: No block is left.

    Example:
        >>> align({"image": "abc", "text": "xy"}, first_block=0)
        {0: {'image': 'a'}, 1: {'image': 'b', 'text': 'x'}, 2: {'image': 'c', 'text': 'y'}}
    """
    depth = max(len(blocks) for blocks in towers.values())
    if first_block >= depth:
        raise ConfigError(f"first_block is {first_block}, the deepest tower has {depth} blocks; lower it below {depth}")
    return {
        slot: {name: blocks[slot - depth] for name, blocks in towers.items() if slot >= depth - len(blocks)}
        for slot in range(first_block, depth)
    }


def first_blocks(towers: Mapping[str, Sequence[object]], *, first_block: int) -> dict[str, int]:
    """Count, in each tower, the blocks below the slot that is the first adapted one.

    Example:
        >>> first_blocks({"image": "abc", "text": "xy"}, first_block=2)
        {'image': 2, 'text': 1}
    """
    depth = max(len(blocks) for blocks in towers.values())
    return {name: max(0, first_block - depth + len(blocks)) for name, blocks in towers.items()}


def _hookable(blocks: list[Any], *, tower: str, kind: str) -> tuple[Block, ...]:
    found = tuple(one for one in map(_block, blocks) if one is not None)
    if not found or len(found) < len(blocks):
        other = "text" if tower == "image" else "image"
        raise ConfigError(
            f"the {tower} tower ({kind}) has no transformer blocks that adapters fit into; choose a model with a ViT "
            f"and a transformer for texts, or set towers to {other}"
        )
    return found


def _list(holder: object, name: str) -> list[Any]:
    # Whose modules these are is not known before they are looked at, hence no types.
    found = getattr(holder, name, None)
    return list(found) if isinstance(found, nn.ModuleList | nn.Sequential) else []


def _block(module: Any) -> Block | None:
    """Tell a block by its parts, so that nobody's classes have to be imported."""
    parts = dict(module.named_children())
    if {"ls_1", "ls_2", "ln_2", "mlp"} <= parts.keys():  # open_clip
        end = BranchEnd(module.ls_2)
        return Block(BranchEnd(module.ls_1), end, module.ln_2, end, _linears(module.mlp))
    if {"drop_path1", "drop_path2", "norm2", "mlp"} <= parts.keys():  # timm
        end = BranchEnd(module.drop_path2, "input")
        # Blocks that normalise a branch at its end (ResPostBlock, EvaBlockPostNorm) give their MLP the state itself.
        between = module.mlp if "Post" in type(module).__name__ else module.norm2
        return Block(BranchEnd(module.drop_path1, "input"), end, between, end, _linears(module.mlp))
    if {"attention", "intermediate", "output"} <= parts.keys():  # BERT and its like
        linears = (module.intermediate.dense, module.output.dense)
        ends = BranchEnd(module.attention.output.dropout), BranchEnd(module.output.dropout)
        return Block(*ends, module.intermediate, BranchEnd(module.output), linears)
    if "layer" in parts and hasattr(module.layer[-1], "DenseReluDense"):  # T5's encoder
        attention, mlp = module.layer[0], module.layer[-1]
        end = BranchEnd(mlp.dropout)
        return Block(BranchEnd(attention.dropout), end, mlp.layer_norm, end, _linears(mlp))
    return None


def _linears(module: nn.Module) -> tuple[nn.Linear, ...]:
    return tuple(one for one in module.modules() if isinstance(one, nn.Linear))
