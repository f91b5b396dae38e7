"""A training step from cached tokens against one from pixels and token ids, and what a step keeps for its way back.

Run: `python -m benchmarks.token_cache [--small]`. Cross-Modal Adapter (r = 8, 16 shared channels) in the last 3 of 12 blocks of a
CLIP of the size of ViT-B/32 with random weights, which change no time; one thread, best of 3 runs of five steps, in turns; about
2 minutes. Tokens are read from a mapped file in every step. Whole towers see all 77 places of a caption, however short it is.
"""

import argparse
import gc
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from weakref import WeakSet

import open_clip
import torch
from torch import Tensor

from xmadapter.config import ContrastiveConfig, CrossModalConfig
from xmadapter.encoder_adapters import (
    TokenFile,
    attach,
    checkpoint_gradients,
    image_features,
    image_tokens,
    text_features,
    text_tokens,
    write_tokens,
)
from xmadapter.training.contrastive import Pairs, cosine_logits, fit_contrastive, symmetric_contrastive

DEPTH, TOP, STEPS, LOGIT_SCALE = 12, 3, 5, 20.0
SHORT = "captions of 6 to 20 tokens"
CAPTIONS = {SHORT: (5, 20), "captions of 77 tokens": (76, 77)}
"""First and last place of a caption's end, the latter left out."""


@dataclass(frozen=True)
class Size:
    """Of a model and of a batch; `head` is the width of a head of attention."""

    image_width: int
    text_width: int
    head: int
    pixels: int
    patch: int
    pairs: int
    repeats: int


VIT_B_32 = Size(image_width=768, text_width=512, head=64, pixels=224, patch=32, pairs=8, repeats=3)
SMALL = Size(image_width=96, text_width=64, head=32, pixels=64, patch=16, pairs=4, repeats=1)


@dataclass(frozen=True)
class PixelPairs:
    """Pairs through whole towers; every image has one text."""

    model: Any
    items: Tensor
    pixels: Tensor
    ids: Tensor

    def logits(self, rows: Tensor, /) -> Tensor:
        image, text = self.model.encode_image(self.pixels[rows]), self.model.encode_text(self.ids[rows])
        return cosine_logits(text, image, logit_scale=LOGIT_SCALE)


@dataclass(frozen=True)
class TokenPairs:
    """The same pairs from the states that enter the first adapted block."""

    model: Any
    items: Tensor
    images: TokenFile
    texts: TokenFile

    def logits(self, rows: Tensor, /) -> Tensor:
        tokens, _ = self.images.rows(rows)
        image = image_features(self.model, tokens, block=self.images.block)
        text = text_features(self.model, *self.texts.rows(rows), block=self.texts.block)
        return cosine_logits(text, image, logit_scale=LOGIT_SCALE)


@dataclass(frozen=True)
class Comparison:
    """Seconds of CPU a step, losses of the steps from pixels, and their largest difference from those from tokens."""

    pixel_s: float
    token_s: float
    losses: list[float]
    difference: float


def make_pairs(size: Size, *, caption_ends: tuple[int, int]) -> PixelPairs:
    """Draw images, and captions whose last token stands between two places."""
    torch.manual_seed(0)
    image = open_clip.CLIPVisionCfg(
        layers=DEPTH,
        width=size.image_width,
        head_width=size.head,
        patch_size=size.patch,
        image_size=size.pixels,
    )
    text = open_clip.CLIPTextCfg(width=size.text_width, heads=size.text_width // size.head, layers=DEPTH)
    model = open_clip.CLIP(size.text_width, image, text).eval()
    ids = torch.randint(1, model.vocab_size - 1, (size.pairs, model.context_length))
    for row, end in zip(ids, torch.randint(*caption_ends, (size.pairs,)), strict=True):
        row[end], row[end + 1 :] = model.vocab_size - 1, 0
    return PixelPairs(model, torch.arange(size.pairs), torch.randn(size.pairs, 3, size.pixels, size.pixels), ids)


def cache(pairs: PixelPairs, folder: Path) -> TokenPairs:
    """Compute the tokens of all pairs once; nothing is attached yet."""
    block, count = DEPTH - TOP, len(pairs.items)
    images = image_tokens(pairs.model, pairs.pixels, block=block)
    texts = text_tokens(pairs.model, pairs.ids, block=block)
    write_tokens(folder / "image", [(images, torch.full((count,), images.shape[1]))], block=block, fingerprint="")
    write_tokens(folder / "text", [texts], block=block, fingerprint="")
    return TokenPairs(pairs.model, pairs.items, TokenFile(folder / "image"), TokenFile(folder / "text"))


def train(model: Any, pairs: Pairs) -> tuple[list[float], float]:
    """Train new adapters for five steps; losses, and seconds of CPU a step, as others may be using the machine."""
    bank = attach(model, CrossModalConfig(width=8, shared=16, first_block=DEPTH - TOP), seed=1)
    config = ContrastiveConfig(epochs=STEPS, batch_size=len(pairs.items), learning_rate=1e-3)
    losses: list[float] = []
    started = time.process_time()
    fit_contrastive(bank, pairs, config, seed=1, on_epoch=lambda epoch, _: losses.append(epoch.loss))
    seconds = (time.process_time() - started) / STEPS
    bank.detach()
    return losses, seconds


@dataclass(frozen=True, eq=False)
class Saved:
    """A tensor that a graph keeps; it goes when the graph lets go of it."""

    tensor: Tensor


def kept_bytes(model: Any, pairs: Pairs, *, first_block: int) -> int:
    """Count what a forward pass keeps for its way back, weights apart: each storage once, whole."""
    bank = attach(model, CrossModalConfig(width=8, shared=16, first_block=first_block), seed=1)
    saved: WeakSet[Saved] = WeakSet()

    def save(tensor: Tensor) -> Saved:
        one = Saved(tensor)
        saved.add(one)
        return one

    with torch.autograd.graph.saved_tensors_hooks(save, lambda one: one.tensor):
        loss = symmetric_contrastive(pairs.logits(torch.arange(len(pairs.items))), pairs.items)
    gc.collect()  # checkpoints of blocks that no gradient reaches may hold each other
    storages = [one.tensor.untyped_storage() for one in saved]
    kept = {storage.data_ptr(): storage.nbytes() for storage in storages}
    for weight in (*model.parameters(), *model.buffers(), *bank.parameters()):
        kept.pop(weight.untyped_storage().data_ptr(), None)
    loss.backward()
    bank.detach()
    return sum(kept.values())


def compare(size: Size, pixels: PixelPairs) -> Comparison:
    with tempfile.TemporaryDirectory() as folder:
        tokens = cache(pixels, Path(folder))
        runs = [(train(pixels.model, pixels), train(pixels.model, tokens)) for _ in range(size.repeats)]
    (losses, _), (others, _) = runs[0]
    return Comparison(
        pixel_s=min(seconds for (_, seconds), _ in runs),
        token_s=min(seconds for _, (_, seconds) in runs),
        losses=losses,
        difference=max(abs(one - other) for one, other in zip(losses, others, strict=True)),
    )


def memory(pixels: PixelPairs) -> dict[str, list[int]]:
    """Count what steps keep, with adapters in the last blocks and in all."""
    model, last, whole = pixels.model, DEPTH - TOP, "from pixels"
    found = {whole: [kept_bytes(model, pixels, first_block=first) for first in (last, 0)]}
    with tempfile.TemporaryDirectory() as folder:
        found["from tokens"] = [kept_bytes(model, cache(pixels, Path(folder)), first_block=last)]
    checkpoint_gradients(model)
    found[f"{whole}, checkpointed"] = [kept_bytes(model, pixels, first_block=first) for first in (last, 0)]
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="narrow towers, one run")
    size = SMALL if parser.parse_args(arguments).small else VIT_B_32
    torch.set_num_threads(1)
    for name, ends in CAPTIONS.items():
        found = compare(size, make_pairs(size, caption_ends=ends))
        print(
            f"{name}: {1000 * found.pixel_s:.0f} ms of CPU a step of {size.pairs} pairs from pixels, {1000 * found.token_s:.0f} ms from "
            f"tokens, ratio {found.pixel_s / found.token_s:.2f}"
        )
        print(f"  losses {' '.join(f'{loss:.5f}' for loss in found.losses)}; largest difference {found.difference:.1e}")
    print(f"{'kept for the way back':30} {f'last {TOP} blocks':>14} {f'all {DEPTH} blocks':>14}")
    for name, counts in memory(make_pairs(size, caption_ends=CAPTIONS[SHORT])).items():
        print(f"{name:30} " + " ".join(f"{count / 1e6:11.1f} MB" for count in counts))


if __name__ == "__main__":
    main()
