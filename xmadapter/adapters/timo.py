"""TIMO: prompts weighted by images, and prompts as further rows of a discriminant (Li et al., AAAI 2025).

The paper weighs the text term; here `cache_weight` is the weight of the discriminant, so that 0 is the text classifier.
"""

from collections.abc import Iterator, Mapping, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from xmadapter.adapters.base import Memory, SolvableAdapter
from xmadapter.adapters.gda import fit_gaussians
from xmadapter.config import TIMOConfig

__all__ = ["TIMO", "guided_text", "prompt_match", "prompt_rows"]


def prompt_match(
    prompts: Float[Tensor, "classes prompts dim"],
    keys: Float[Tensor, "seeds support dim"],
    labels: Int[Tensor, " support"],
) -> Float[Tensor, "seeds classes prompts"]:
    """Compare every prompt with the mean support image of its class: cosines.

    Args:
        prompts: L2-normalised.
        keys: L2-normalised.
        labels: Class of each key; every class has one.
    """
    members = F.one_hot(labels, len(prompts)).to(keys)
    return torch.einsum("cpd,scd->scp", prompts, F.normalize(members.mT @ keys, dim=-1))


def guided_text(
    prompts: Float[Tensor, "classes prompts dim"], match: Float[Tensor, "seeds classes prompts"], *, sharpness: float
) -> Float[Tensor, "seeds classes dim"]:
    """Average the prompts of a class with weights softmax(sharpness · match), normalised again; 0 is the plain mean."""
    return F.normalize(torch.einsum("scp,cpd->scd", (sharpness * match).softmax(dim=-1), prompts), dim=-1)


def prompt_rows(
    prompts: Float[Tensor, "classes prompts dim"], match: Float[Tensor, "seeds classes prompts"], *, count: int
) -> Float[Tensor, "seeds classes count dim"]:
    """Take the best-matching prompts of each class, each as long as its match.

    Args:
        prompts: L2-normalised.
        match: As of `prompt_match`.
        count: How many a class; beyond the number of prompts the best come again.
    """
    best, order = match.sort(dim=-1, descending=True, stable=True)
    place = torch.arange(count, device=match.device) % match.shape[-1]
    chosen = prompts[torch.arange(len(prompts), device=match.device)[:, None], order[..., place]]
    return best[..., place, None] * chosen


class TIMO(SolvableAdapter[TIMOConfig]):
    """Zero-shot logits of guided texts plus the discriminant over images and prompts.

    Args:
        config: Weight, sharpness and number of prompts.
        memory: Views of the support and prompts of the classes.
    """

    class_text: Tensor
    weight: Tensor
    bias: Tensor

    def __init__(self, config: TIMOConfig, memory: Memory) -> None:
        super().__init__(memory)
        self.config = config
        class_text = memory.text.expand(memory.keys.shape[0], -1, -1)
        weight, bias = torch.zeros_like(class_text), torch.zeros_like(class_text[..., 0])
        if memory.views is not None and memory.prompts is not None:
            match = prompt_match(memory.prompts, memory.keys, memory.labels)
            class_text = guided_text(memory.prompts, match, sharpness=config.prompt_sharpness)
            count = round(config.prompt_share * match.shape[-1])
            rows = prompt_rows(memory.prompts, match, count=count)
            classes = torch.arange(len(memory.text), device=memory.labels.device)
            gaussians = fit_gaussians(
                torch.cat([memory.views.flatten(1, 2), rows.flatten(1, 2)], dim=1),
                torch.cat([memory.labels.repeat_interleave(memory.views.shape[2]), classes.repeat_interleave(count)]),
                classes=len(memory.text),
            )
            weight, bias = gaussians.discriminant(gaussians.published_shrinkage)
        self.register_buffer("class_text", class_text.clone())
        self.register_buffer("weight", weight)
        self.register_buffer("bias", bias)

    def base_logits(self, image: Float[Tensor, "#seeds batch dim"]) -> Float[Tensor, "seeds batch classes"]:
        """Classify by similarity to the guided texts."""
        return self.logit_scale * (image @ self.class_text.mT)

    def vote_grid(
        self, image: Float[Tensor, "#seeds batch dim"], grid: Mapping[str, Sequence[float]]
    ) -> Iterator[Float[Tensor, "seeds batch classes"]]:
        """Yield the discriminant; nothing but its weight is solved."""
        del grid
        yield image @ self.weight.mT + self.bias[:, None]
