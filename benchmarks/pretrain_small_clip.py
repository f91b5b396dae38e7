"""Pretrain a small open_clip model, two transformers that can be adapted, on still shapes and what they are.

python -m benchmarks.pretrain_small_clip runs/retrieval/small-clip

The pictures are those of `make_moving_shapes`, one shape in one of nine places; the captions name shape, colour and place. What moves or
changes it has never seen, nor read of. Writes a folder for `encoder: {kind: open_clip, model: "local-dir:FOLDER"}`: a ViT of 16 patches
and a causal text transformer over a vocabulary of its own, 0.7 million weights in all, in about five minutes of one core.
"""

import argparse
import json
import string
from itertools import product
from pathlib import Path
from typing import cast

import numpy as np
import open_clip
import torch
from PIL import Image
from safetensors.torch import save
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from benchmarks.make_moving_shapes import COLOURS, COLUMNS, ROWS, SHAPES, draw, events, named, place
from xmadapter.config import ContrastiveConfig
from xmadapter.seeding import derive_seed
from xmadapter.storage import write_durably
from xmadapter.training.contrastive import cosine_logits, fit_contrastive

SIDE, CONTEXT, LOGIT_SCALE = 48, 16, 20.0
PAD, UNKNOWN, START, END = "[PAD]", "[UNK]", "[CLS]", "[SEP]"
MEAN, DEVIATION = [0.1] * 3, [0.2] * 3
FIT = ContrastiveConfig(epochs=16, batch_size=256, learning_rate=1e-3, weight_decay=0.05)


def stills() -> dict[str, tuple[str, str, tuple[int, int]]]:
    """All that can be said of a still: by caption the shape, the colour, and the column and row of its place."""
    fields = product(range(3), range(3))
    return {
        f"{named(colour)} {shape} at the {_where(*field)}": (shape, colour, field)
        for shape, colour, field in product(SHAPES, COLOURS, list(fields))
    }


def _where(column: int, row: int) -> str:
    words = [word for word in (ROWS[row], COLUMNS[column]) if word != "middle"]
    return " ".join(words) or "middle"


def make_tokenizer() -> PreTrainedTokenizerFast:
    """Split texts into the words of all captions, others into letters."""
    words = sorted({word for text in (*stills(), *(event.caption for event in events())) for word in text.split()})
    letters = [letter for letter in string.ascii_lowercase if letter not in words]
    pieces = [f"##{letter}" for letter in string.ascii_lowercase]
    # A causal tower is read at the largest id, so the end comes last.
    vocabulary = {word: number for number, word in enumerate([PAD, UNKNOWN, START, *words, *letters, *pieces, END])}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token=UNKNOWN))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing((END, vocabulary[END]), (START, vocabulary[START]))
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=PAD, unk_token=UNKNOWN, cls_token=START, sep_token=END
    )


def configuration(words: int) -> dict[str, object]:
    """The model's open_clip configuration."""
    vision = {"width": 96, "head_width": 32, "layers": 4, "image_size": SIDE, "patch_size": 12}
    text = {"width": 64, "heads": 2, "layers": 4, "context_length": CONTEXT, "vocab_size": words}
    text |= {"hf_tokenizer_name": "in the folder"}
    preprocess = {"mean": MEAN, "std": DEVIATION, "interpolation": "bicubic", "resize_mode": "shortest"}
    return {"model_cfg": {"embed_dim": 64, "vision_cfg": vision, "text_cfg": text}, "preprocess_cfg": preprocess}


class Stills:
    """Pairs of a still and its caption under a model in training, as `fit_contrastive` takes them."""

    def __init__(self, model: open_clip.CLIP, tokenizer: PreTrainedTokenizerFast, count: int, seed: int) -> None:
        captions, rng = stills(), np.random.default_rng(derive_seed("stills", seed))
        self._model = model
        self._ids = tokenizer(list(captions), padding="max_length", max_length=CONTEXT, return_tensors="pt").input_ids
        drawn = rng.integers(0, len(captions), count)
        kinds = list(captions.values())
        pictures = (
            draw(shape, colour, place(field, rng), rng) for shape, colour, field in (kinds[row] for row in drawn)
        )
        small = [np.asarray(one.resize((SIDE, SIDE), Image.Resampling.BICUBIC)) for one in pictures]
        self._pixels = torch.from_numpy(np.stack(small)).permute(0, 3, 1, 2)
        self.items = torch.from_numpy(drawn)

    def logits(self, rows: Tensor, /) -> Tensor:
        pixels = (self._pixels[rows].float() / 255 - MEAN[0]) / DEVIATION[0]
        text = self._model.encode_text(self._ids[self.items[rows]])
        return cosine_logits(text, self._model.encode_image(pixels), logit_scale=LOGIT_SCALE)


def main() -> None:
    """Train and write the model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--stills", type=int, default=12_000)
    parser.add_argument("--epochs", type=int, default=FIT.epochs)
    arguments = parser.parse_args()
    folder, tokenizer = arguments.folder, make_tokenizer()
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save_pretrained(folder)
    (folder / "open_clip_config.json").write_text(json.dumps(configuration(len(tokenizer)), indent=1))
    torch.manual_seed(0)
    model = cast("open_clip.CLIP", open_clip.create_model(f"local-dir:{folder}", load_weights=False))
    torch.nn.init.constant_(model.logit_scale, np.log(LOGIT_SCALE)).requires_grad_(False)
    pairs = Stills(model, tokenizer, arguments.stills, seed=0)
    fit = FIT.model_copy(update={"epochs": arguments.epochs})
    fit_contrastive(
        model, pairs, fit, on_epoch=lambda epoch, _: print(f"epoch {epoch.epoch}: loss {epoch.loss:.3f}", flush=True)
    )
    weights = save({name: one.contiguous() for name, one in model.state_dict().items()})
    write_durably(folder / "open_clip_model.safetensors", lambda file: file.write(weights))
    print(f"{folder}: {sum(one.numel() for one in model.parameters()):,} weights")


if __name__ == "__main__":
    main()
