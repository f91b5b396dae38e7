"""Coloured shapes with captions, as features of a small random open_clip model whose towers can be entered."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from tests.unit.encoders.zoo import FAMILIES, make_family
from xmadapter.config import ImageConfig, OpenClipSpec
from xmadapter.data import decode_image, read_media
from xmadapter.encoders import build_encoder, build_preprocess, resolve_encoder
from xmadapter.features import CaptionedImages, FeatureSpace, Provenance, RetrievalData, without_captions
from xmadapter.retrieval import RetrievalTest

COLOURS = ("red", "green", "blue", "yellow", "white", "purple", "orange", "grey")


def make_shapes(folder: Path, family: str = "CLIP ViT", *, images: int = 8) -> tuple[RetrievalData, RetrievalTest]:
    """Training, validation and test images of one colour each, with a caption or two."""
    spec = resolve_encoder(OpenClipSpec(model=f"local-dir:{make_family(folder / 'model', FAMILIES[family])}"))
    encoder, preprocess = build_encoder(spec), build_preprocess(spec, ImageConfig())
    parts, media = {}, {}
    for number, split in enumerate(("train", "validation", "test")):
        names, texts, owners = [], [], []
        for row in range(images):
            path = folder / split / f"{row}.png"
            path.parent.mkdir(exist_ok=True)
            pixels = np.random.default_rng([number, row]).integers(0, 80, (40, 40, 3), dtype=np.uint8)
            picture = Image.fromarray(pixels)
            picture.paste(COLOURS[row % len(COLOURS)], (4 + row, 5, 30, 34))
            picture.save(path)
            media[f"{split}/{row}"] = str(path)
            names.append(f"{split}/{row}")
            captions = [f"a {COLOURS[row % len(COLOURS)]} block", f"{split} {row}"][: 1 + row % 2]
            texts += captions
            owners += [row] * len(captions)
        loaded = [preprocess(decode_image(read_media(media[name]))) for name in names]
        image = F.normalize(encoder.encode_image(torch.stack(loaded)), dim=-1).numpy()
        text = F.normalize(encoder.encode_text(texts), dim=-1).numpy()
        parts[split] = CaptionedImages(image, tuple(names), text, tuple(texts), np.array(owners))
    space = FeatureSpace(encoder=spec, image=ImageConfig(), dim=encoder.dim, logit_scale=encoder.logit_scale)
    data = RetrievalData(parts["train"], parts["validation"], media, space, Provenance("plan", "encoder", "split"))
    return data, RetrievalTest(parts["test"], media)


def as_videos(images: CaptionedImages, media: Mapping[str, str]) -> tuple[CaptionedImages, dict[str, str]]:
    """Three videos of eight images, as two, two and four frames, each with the caption of the image of its number."""
    video = (0, 0, 1, 1, 2, 2, 2, 2)
    ids = tuple(f"{number}/{name}" for number, name in zip(video, (name[-1] for name in images.image_ids), strict=True))
    found = without_captions(images.image, ids, videos=True)
    captioned = replace(found, text=images.text[:3], texts=images.texts[:3], image_of_text=np.arange(3))
    return captioned, {one: media[name] for one, name in zip(ids, images.image_ids, strict=True)}
