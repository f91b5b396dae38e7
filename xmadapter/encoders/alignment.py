"""Make the linear maps between the embedded model's towers: `python -m xmadapter.encoders.alignment [FILE]`.

No image-text pair is used. A classifier's weight rows are image-space prototypes of its 1,000 ImageNet classes; a ridge
regression maps embedded class names, synonyms and definitions onto them. Scaling and ridge weight are chosen by
cross-validation over held-out classes; no other data is looked at. Takes about a minute; docs/adr/0010 holds the table.
"""

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from safetensors.torch import load_file, save
from torch import Tensor

from xmadapter.encoders.efficientnet_lite import load_lite0
from xmadapter.encoders.embedded import CONTEXT_LENGTH, Parts, check_parts, find_parts
from xmadapter.seeding import derive_seed
from xmadapter.storage import write_durably

__all__ = ["Score", "class_texts", "cross_validate", "image_axes", "main", "mean_feature", "select"]

_DIM = 512
_FOLDS = 10
_SPLITS = 3  # one split of the classes decides by luck: the choice flips between neighbouring settings
_SCALINGS = (0.0, 0.25, 0.5, 0.75, 1.0)
_RIDGES = (0.03, 0.1, 0.3, 1.0)
_TEMPLATE = "a photo of a {}."
_LOGIT_SCALE = 30.0


@dataclass(frozen=True)
class Score:
    """How well texts of held-out classes find their prototypes.

    Attributes:
        scaling: Exponent of the singular values that scale the principal axes.
        ridge: Weight of the ridge, in units of the texts' mean variance.
        top1: Share of held-out classes nearest to their own prototype, among the 100 of their fold.
        median_rank: Of the right class among all 1,000, from 1.
        mean_rank: Its geometric mean.
    """

    scaling: float
    ridge: float
    top1: float
    median_rank: float
    mean_rank: float


def class_texts() -> tuple[list[str], Int[Tensor, " n"], Int[Tensor, " classes"]]:
    """List what ImageNet calls its classes: each name and synonym, bare and as a prompt, and each definition.

    Returns:
        The texts; the class of each; and for each class the row of the prompt with its first name.
    """
    from timm.data.imagenet_info import ImageNetInfo

    info = ImageNetInfo("imagenet-1k")
    texts: list[str] = []
    classes: list[int] = []
    prompts: list[int] = []
    for number, label in enumerate(info.label_names()):
        names, definition = info.label_name_to_description(label, detailed=True).split(": ", 1)
        prompts.append(len(texts))
        described = [_TEMPLATE.format(name) for name in names.split(", ")] + names.split(", ") + [definition]
        texts += described
        classes += [number] * len(described)
    return texts, torch.tensor(classes), torch.tensor(prompts)


@torch.inference_mode()
def embed_texts(texts: Sequence[str], parts: Parts) -> Float[Tensor, "n 384"]:
    """Embed texts by MiniLM's mean-pooled token states, not normalised, as the text tower sees them."""
    from transformers import AutoConfig, AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(parts.text, local_files_only=True)
    model = AutoModel.from_config(
        AutoConfig.from_pretrained(parts.text, local_files_only=True), add_pooling_layer=False
    ).eval()
    weights = load_file(parts.text / "model.safetensors")
    model.load_state_dict(
        {
            name: tensor
            for name, tensor in weights.items()
            if not name.startswith(("pooler.", "embeddings.position_ids"))
        }
    )
    rows: list[Tensor] = []
    for start in range(0, len(texts), 64):
        batch = tokenizer(
            list(texts[start : start + 64]),
            return_tensors="pt",
            padding=True,
            truncation=True,
            max_length=CONTEXT_LENGTH,
        )
        mask = batch.attention_mask.unsqueeze(-1)
        rows.append((model(**batch).last_hidden_state * mask).sum(1) / mask.sum(1))
    return torch.cat(rows)


def image_axes(classifier: Float[Tensor, "classes width"]) -> tuple[Float[Tensor, "dim width"], Float[Tensor, " dim"]]:
    """Principal axes of the centred classifier rows, with their singular values.

    The largest component of each axis is made positive: the sign of a singular vector depends on the BLAS.
    """
    centred = classifier.double() - classifier.double().mean(0)
    _, strengths, axes = torch.linalg.svd(centred, full_matrices=False)
    largest = axes.gather(1, axes.abs().argmax(1, keepdim=True))
    return (axes * largest.sign())[:_DIM], strengths[:_DIM]


def mean_feature(weight: Float[Tensor, " width"], bias: Float[Tensor, " width"]) -> Float[Tensor, " width"]:
    """Mean of ReLU6 over normal values, which a batch norm emits with mean `bias` and deviation `|weight|`."""
    deviation = weight.double().abs().clamp_min(1e-12)

    def above(threshold: float) -> Tensor:
        # Mean of max(z - threshold, 0) for normal z.
        distance = (bias.double() - threshold) / deviation
        density = torch.exp(-distance.square() / 2) / math.sqrt(2 * math.pi)
        return deviation * (distance * torch.special.ndtr(distance) + density)

    return above(0.0) - above(6.0)


def cross_validate(
    embedded: Float[Tensor, "n width"],
    classes: Int[Tensor, " n"],
    prompts: Int[Tensor, " classes"],
    prototypes: Float[Tensor, "classes dim"],
    *,
    ridge: float,
    split: int,
) -> Int[Tensor, "classes 2"]:
    """Rank the right class of every class's prompt, with all texts of its fold held out.

    Args:
        embedded: Text embeddings.
        classes: Class of each text.
        prompts: Row of the text that asks for each class.
        prototypes: Image-space prototype of each class, L2-normalised.
        ridge: Weight of the ridge, in units of the texts' mean variance.
        split: Number of the random split into folds.

    Returns:
        Rank among all classes and rank among the held-out ones, each from 1.
    """
    generator = torch.Generator().manual_seed(derive_seed("alignment", "folds", split))
    fold = torch.randperm(len(prompts), generator=generator) % _FOLDS
    ranks = torch.zeros(len(prompts), 2, dtype=torch.long)
    for number in range(_FOLDS):
        known = fold[classes] != number
        projection, mean = _fit_ridge(embedded[known], prototypes[classes[known]], ridge)
        held = torch.where(fold == number)[0]
        cosines = F.normalize((embedded[prompts[held]] - mean) @ projection, dim=1) @ prototypes.T
        right = cosines[torch.arange(len(held)), held].unsqueeze(1)
        ranks[held, 0] = (cosines > right).sum(1) + 1
        ranks[held, 1] = (cosines[:, held] > right).sum(1) + 1
    return ranks


def select(scores: Sequence[Score]) -> Score:
    """Choose by the one-standard-error rule.

    Ranks among all classes favour texts that land near classes seen in training, the top-1 favours the opposite. So: among
    settings whose top-1 is within one standard error of the best, the one with the best mean rank.
    """
    best = max(score.top1 for score in scores)
    error = math.sqrt(best * (1 - best) / 1000)
    return min((score for score in scores if score.top1 >= best - error), key=lambda score: score.mean_rank)


def main(target: Path) -> None:
    """Cross-validate, print the table, fit on all classes and write the file."""
    parts = find_parts()
    if target.exists():
        check_parts(parts)
    lite0 = load_lite0(parts.image)
    axes, strengths = image_axes(lite0["classifier.weight"])
    classifier = lite0["classifier.weight"].double()
    rows = (classifier - classifier.mean(0)) @ axes.T
    texts, classes, prompts = class_texts()
    embedded = embed_texts(texts, parts).double()
    scores: list[Score] = []
    for scaling, ridge in product(_SCALINGS, _RIDGES):
        prototypes = F.normalize(rows * strengths**scaling, dim=1)
        splits = [
            cross_validate(embedded, classes, prompts, prototypes, ridge=ridge, split=split) for split in range(_SPLITS)
        ]
        scores.append(_score(scaling, ridge, torch.cat(splits).double()))
        sys.stdout.write(_line(scores[-1]))
    choice = select(scores)
    sys.stdout.write(f"{len(texts)} texts; chosen:\n{_line(choice)}")
    scaled = axes * (strengths**choice.scaling).unsqueeze(1)
    projection, mean = _fit_ridge(embedded, F.normalize(rows * strengths**choice.scaling, dim=1)[classes], choice.ridge)
    # float16 for the two matrices keeps the file under 1.8 MB; cosines move by less than 1e-3.
    data = save(
        {
            "image_projection": scaled.half().contiguous(),
            "image_bias": -(scaled @ mean_feature(lite0["bn2.weight"], lite0["bn2.bias"])).float(),
            "text_projection": projection.T.half().contiguous(),
            "text_mean": mean.float(),
            "logit_scale": torch.tensor(_LOGIT_SCALE),
        }
    )
    write_durably(target, lambda file: file.write(data))


def _fit_ridge(
    embedded: Float[Tensor, "n width"], targets: Float[Tensor, "n dim"], ridge: float
) -> tuple[Float[Tensor, "width dim"], Float[Tensor, " width"]]:
    mean = embedded.mean(0)
    centred = embedded - mean
    gram = centred.T @ centred
    gram.diagonal().add_(ridge * gram.diagonal().mean())
    return torch.linalg.solve(gram, centred.T @ targets), mean


def _score(scaling: float, ridge: float, ranks: Float[Tensor, "n 2"]) -> Score:
    overall, held = ranks.T
    return Score(
        scaling=scaling,
        ridge=ridge,
        top1=(held == 1).double().mean().item(),
        median_rank=overall.median().item(),
        mean_rank=overall.log().mean().exp().item(),
    )


def _line(score: Score) -> str:
    return (
        f"scaling {score.scaling:4.2f}  ridge {score.ridge:4.2f}  top-1 of 100 {score.top1:.3f}  "
        f"median rank {score.median_rank:3.0f}  mean rank {score.mean_rank:5.2f}\n"
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else find_parts().alignment)
