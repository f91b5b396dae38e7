"""Adapters in the text tower of the embedded model, on Tux Paint's stamps: recall against zero-shot and linear heads.

python -m benchmarks.stamp_adapters runs/retrieval/features

The image tower is convolutional, so images stay as they were encoded and texts are adapted to them. Learning rates are chosen on the
validation split; the test split is scored once for each choice. Interval: Student's t over seeds, which differ in order and start.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from xmadapter.config import (
    BiasTuningConfig,
    ContrastiveConfig,
    CrossModalConfig,
    EncoderAdapterConfig,
    FullTuningConfig,
    LoraConfig,
    UniAdapterConfig,
)
from xmadapter.encoder_adapters import attach
from xmadapter.encoders import build_encoder
from xmadapter.errors import XMAdapterError
from xmadapter.evaluation import seed_interval
from xmadapter.evaluation.retrieval import RetrievalReport, evaluate_retrieval
from xmadapter.features import CaptionedImages, FeatureStore, open_features
from xmadapter.training.contrastive import cosine_logits, fit_contrastive

SEEDS = (1, 2, 3)
RATES = (3e-4, 1e-3, 3e-3)
METHODS: dict[str, EncoderAdapterConfig | None] = {
    "linear heads": None,
    "adapters, r=8": CrossModalConfig(width=8, shared=0, towers="text"),
    "adapters, r=32": CrossModalConfig(width=32, shared=0, towers="text"),
    "adapters, r=8, upper half": CrossModalConfig(width=8, shared=0, first_block=3, towers="text"),
    "UniAdapter, r=32": UniAdapterConfig(width=32, towers="text"),
    "LoRA, r=8": LoraConfig(towers="text"),
    "bias tuning": BiasTuningConfig(towers="text"),
    "full text tower": FullTuningConfig(towers="text"),
}
FIT = ContrastiveConfig(epochs=10, batch_size=64, weight_decay=0.01)


class Heads(nn.Module):
    """A linear map for each modality, from the identity."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.text, self.image = nn.Parameter(torch.eye(dim)), nn.Parameter(torch.eye(dim))


@dataclass(frozen=True)
class HeadPairs:
    """Pairs as encoded, through the heads."""

    heads: Heads
    data: CaptionedImages
    logit_scale: float

    @property
    def items(self) -> Tensor:
        return torch.from_numpy(self.data.image_of_text)

    def features(self, rows: Tensor | slice) -> tuple[Tensor, Tensor]:
        text, own = torch.from_numpy(self.data.text)[rows], torch.from_numpy(self.data.image)[self.items[rows]]
        return text @ self.heads.text, own @ self.heads.image

    def logits(self, rows: Tensor, /) -> Tensor:
        return cosine_logits(*self.features(rows), logit_scale=self.logit_scale)


@dataclass(frozen=True)
class TextPairs:
    """Images as encoded, texts through the tower with its adapters."""

    model: nn.Module
    ids: Tensor
    data: CaptionedImages
    logit_scale: float

    @property
    def items(self) -> Tensor:
        return torch.from_numpy(self.data.image_of_text)

    def features(self, rows: Tensor | slice) -> tuple[Tensor, Tensor]:
        ids = self.ids[rows]
        text = self.model.encode_text(ids)  # pyright: ignore[reportCallIssue]  a module's attribute may be a tensor
        return text, torch.from_numpy(self.data.image)[self.items[rows]]

    def logits(self, rows: Tensor, /) -> Tensor:
        return cosine_logits(*self.features(rows), logit_scale=self.logit_scale)


@dataclass(frozen=True)
class Split:
    """What is trained, chosen and tested on."""

    train: CaptionedImages
    validation: CaptionedImages
    test: CaptionedImages


def run(
    store: FeatureStore, data: Split, config: EncoderAdapterConfig | None, *, rate: float, seed: int
) -> tuple[RetrievalReport, RetrievalReport, int, float]:
    """Train once; recall on validation and test, trained numbers, seconds a step."""
    scale, fit = store.manifest.logit_scale, FIT.model_copy(update={"learning_rate": rate})
    if config is None:
        trained: nn.Module = (heads := Heads(store.manifest.dim))
        parts = [HeadPairs(heads, part, scale) for part in (data.train, data.validation, data.test)]
    else:
        encoder = build_encoder(store.manifest.recipe.encoder)
        model, tokenize = encoder.model, encoder._tokenizer  # pyright: ignore[reportAttributeAccessIssue]
        trained = attach(model, config, seed=seed)
        parts = [
            TextPairs(model, _short(tokenize(list(part.texts))), part, scale)
            for part in (data.train, data.validation, data.test)
        ]
    begun = time.perf_counter()
    fit_contrastive(trained, parts[0], fit, seed=seed)
    seconds = time.perf_counter() - begun
    with torch.no_grad():
        reports = [evaluate_retrieval(part.features(slice(None))[0], _images(part), part.items) for part in parts[1:]]
    steps = fit.epochs * (len(data.train.texts) // fit.batch_size)
    return reports[0], reports[1], sum(one.numel() for one in trained.parameters()), seconds / steps


def _short(ids: Tensor) -> Tensor:
    """Cut off what is padding in all rows: BERT pads with 0 and does not attend to it."""
    return ids[:, : int((ids != 0).sum(dim=1).max())]


def _images(part: HeadPairs | TextPairs) -> Tensor:
    image = torch.from_numpy(part.data.image)
    return image @ part.heads.image if isinstance(part, HeadPairs) else image


def cells(reports: Sequence[RetrievalReport]) -> str:
    """Recall of both directions, a mean over seeds and half its interval."""
    found = []
    for side in ("text_to_image", "image_to_text"):
        for k in (1, 5, 10):
            interval = seed_interval([getattr(one, side).recall[k].estimate for one in reports])
            half = (interval.high - interval.low) / 2
            found.append(f"{interval.estimate:.1f}" + (f" ±{half:.1f}" if len(reports) > 1 else ""))
    return " | ".join(found)


def main() -> int:
    """Print the table; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("features", help="store made by pipelines/configs/retrieval/encode.yaml")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    try:
        store = open_features(arguments.features)
        data = Split(store.captioned("train"), store.captioned("validation"), store.captioned_test())
    except XMAdapterError as error:
        print(f"error[{error.code}]: {error}", file=sys.stderr)
        return error.exit_status
    print(f"{len(data.train)} training, {len(data.validation)} validation, {len(data.test)} test images; seeds {SEEDS}")
    print("| method | T2I R@1 | R@5 | R@10 | I2T R@1 | R@5 | R@10 | trained | learning rate | ms a step |")
    print("|---|" + "--:|" * 9)
    text, image, own = (torch.from_numpy(part) for part in (data.test.text, data.test.image, data.test.image_of_text))
    print(f"| zero-shot | {cells([evaluate_retrieval(text, image, own)])} | 0 | | |", flush=True)
    for name, config in METHODS.items():
        tried = {rate: [run(store, data, config, rate=rate, seed=seed) for seed in SEEDS] for rate in RATES}
        rate, best = max(tried.items(), key=lambda one: sum(validation.recall_sum for validation, *_ in one[1]))
        _, _, count, seconds = best[0]
        print(
            f"| {name} | {cells([test for _, test, *_ in best])} | {count:,} | {rate:g} | {1000 * seconds:.0f} |",
            flush=True,
        )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
