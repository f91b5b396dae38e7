"""RetrievalModel: a method on an encoder, trained or not, as the two sides of pairs."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from xmadapter.config import (
    EncoderAdapterConfig,
    EncoderSpec,
    HeadsConfig,
    RetrievalConfig,
    TextPooling,
    ZeroShotRetrievalConfig,
)
from xmadapter.encoder_adapters import (
    AdapterBank,
    TunedWeights,
    attach,
    check_resumable,
    checkpoint_gradients,
    keep_activations,
)
from xmadapter.encoder_adapters.bank import check_state
from xmadapter.encoders import TowerEncoder, build_encoder
from xmadapter.errors import ConfigError
from xmadapter.evaluation.retrieval import Ranks, retrieval_ranks
from xmadapter.features import CaptionedImages, FeatureSpace
from xmadapter.retrieval.frames import FrameSides
from xmadapter.retrieval.sides import (
    Side,
    Sides,
    all_rows,
    image_blocks,
    image_tower,
    mean_of_frames,
    stored,
    text_blocks,
    text_tower,
    through,
)
from xmadapter.retrieval.tokens import WORTH_A_FILE, content_of

__all__ = ["RetrievalModel", "retrieval_model"]


class Heads(nn.Module):
    """A linear map for each modality, from the identity."""

    def __init__(self, dim: int, device: torch.device) -> None:
        super().__init__()
        self.text, self.image = (nn.Parameter(torch.eye(dim, device=device)) for _ in range(2))

    def state(self) -> dict[str, Tensor]:
        """Copy the weights to the CPU."""
        return {name: tensor.detach().cpu().clone() for name, tensor in self.state_dict().items()}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Take the weights of a state.

        Raises:
            IntegrityError: They are of another width.
        """
        check_state(state, self.state_dict())
        self.load_state_dict(state)


class Weights(nn.Module):
    """All that a method trains: heads, what acts inside the encoder, both, or for zero-shot nothing."""

    def __init__(self, heads: Heads | None, bank: AdapterBank | TunedWeights | None) -> None:
        super().__init__()
        self.heads, self.bank = heads, bank

    def state(self) -> dict[str, Tensor]:
        """Copy the weights to the CPU, each under one name, as safetensors asks for."""
        parts = (("heads", self.heads), ("bank", self.bank))
        return {f"{part}.{name}": one for part, own in parts if own is not None for name, one in own.state().items()}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Take the weights of a state, all of them.

        Raises:
            IntegrityError: Names or shapes are not those of these weights.
        """
        for part, own in (("heads.", self.heads), ("bank.", self.bank)):
            if own is not None:
                own.load({name.removeprefix(part): one for name, one in state.items() if name.startswith(part)})


class RetrievalModel:
    """A method as it starts; use it inside the `with` of `retrieval_model`.

    Args:
        config: The method.
        space: Of the stored features.
        seed: Of weights that start at random.
        device: Where heads and stored features live, if no encoder is entered: that has a device of its own.

    Attributes:
        weights: What is trained.
    """

    def __init__(self, config: RetrievalConfig, space: FeatureSpace, seed: int, device: torch.device) -> None:
        self._space, self._pooling = space, config.pooling
        self._inside = _inside(config)
        self._encoder = _towers(space.encoder) if self._inside is not None else None
        # An encoder found its device when it was built; all else meets its features there.
        self._device = next(self._encoder.model.parameters()).device if self._encoder else device
        heads = Heads(space.dim, self._device) if isinstance(config, HeadsConfig) else None
        bank = attach(self._encoder.model, self._inside, seed=seed) if self._encoder and self._inside else None
        self.weights = Weights(heads, bank)
        self._checkpointed: nn.Module | None = None
        if self._encoder and not isinstance(config, ZeroShotRetrievalConfig) and config.fit.checkpointing:
            checkpoint_gradients(self._encoder.model)
            self._checkpointed = self._encoder.model

    @property
    def trained_parameters(self) -> int:
        """Trainable numbers."""
        return sum(parameter.numel() for parameter in self.weights.parameters())

    @property
    def adapts_images(self) -> bool:
        """Whether the image tower is entered, so that pixels are needed."""
        return self._enters("image")

    def leave(self) -> None:
        """Leave the encoder as it came, for the next model."""
        if self.weights.bank is not None:
            self.weights.bank.detach()
        if self._checkpointed is not None:
            keep_activations(self._checkpointed)

    def sides(self, data: CaptionedImages, media: Mapping[str, str]) -> Sides | FrameSides:
        """Say how texts and images of a split become features, and how these are compared.

        Args:
            data: The split. An image is a video of one frame, which every pooling leaves as it is.
            media: Where its images' pixels are, by id; looked at where the image tower is adapted.
        """
        text, items = self._headed(self._text(data), "text"), torch.from_numpy(data.image_of_text)
        scale, counts = self._space.logit_scale, [len(video) for video in data.frames]
        if counts and isinstance(self._pooling, TextPooling):
            frame = self._headed(self._samples(data, media, data.frame), "image")
            return FrameSides(text, frame, torch.tensor(counts), items, scale, self._pooling.temperature)
        image = self._samples(data, media, data.image)
        if counts and self.adapts_images:
            image = mean_of_frames(image, counts)
        return Sides(text, self._headed(image, "image"), len(data), items, scale)

    def ranks(self, data: CaptionedImages, media: Mapping[str, str]) -> Ranks:
        """Rank a split in both directions."""
        sides = self.sides(data, media)
        return retrieval_ranks(sides.scores(all_rows(sides.text, len(data.texts))), sides.items)

    def _headed(self, side: Side, modality: Literal["image", "text"]) -> Side:
        heads = self.weights.heads
        return side if heads is None else through(side, getattr(heads, modality))

    def _text(self, data: CaptionedImages) -> Side:
        # A search brings images without texts, and tokenizers of transformers cannot take none.
        if self._encoder is None or not data.texts or not self._enters("text"):
            return stored(data.text, self._device)
        if block := self._start("text", len(data.texts)):
            return text_blocks(self._encoder, data.texts, content_of(data.text), block=block)
        return text_tower(self._encoder, data.texts)

    def _samples(self, data: CaptionedImages, media: Mapping[str, str], frozen: Float[np.ndarray, "rows dim"]) -> Side:
        """Images, or all frames of all videos, through the adapted tower; where it is not adapted, what is stored."""
        if self._encoder is None or not self.adapts_images:
            return stored(frozen, self._device)
        places = [media[name] for name in data.sample_ids]
        if block := self._start("image", len(places)):
            return image_blocks(self._encoder, places, self._space, content_of(data.image), block=block)
        return image_tower(self._encoder, places, self._space)

    def _start(self, tower: Literal["image", "text"], rows: int) -> int:
        """Block at which rows are taken up from a file; 0 where the whole tower runs."""
        block = self.weights.bank.first_blocks[tower] if self.weights.bank is not None else 0
        if not block or rows < WORTH_A_FILE or self._encoder is None or not _can_resume(self._encoder, tower):
            return 0
        return block

    def _enters(self, tower: Literal["image", "text"]) -> bool:
        return self._inside is not None and self._inside.towers in (tower, "both", "all")


def _inside(config: RetrievalConfig) -> EncoderAdapterConfig | None:
    match config:
        case ZeroShotRetrievalConfig():
            return None
        case HeadsConfig():
            return config.over
        case _:
            return config


def _can_resume(encoder: TowerEncoder, tower: Literal["image", "text"]) -> bool:
    try:
        check_resumable(encoder.model, tower)
    except ConfigError:
        return False
    return True


@contextmanager
def retrieval_model(
    config: RetrievalConfig,
    space: FeatureSpace,
    *,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> Iterator[RetrievalModel]:
    """Build a method as it starts, and take it out of the encoder afterwards.

    The encoder is built once per process and kept: models of one process take turns.

    Args:
        config: The method.
        space: Of the stored features.
        seed: Of weights that start at random.
        device: Where heads and stored features live; an encoder finds its own.

    Raises:
        ConfigError: The encoder has no towers to enter, or cannot host the adapters.
    """
    model = RetrievalModel(config, space, seed, torch.device(device))
    try:
        yield model
    finally:
        model.leave()


_built: dict[str, TowerEncoder] = {}
"""The encoder of this process, by the fingerprint of its spec; models take turns in it."""


def _towers(spec: EncoderSpec) -> TowerEncoder:
    key = spec.fingerprint
    if key not in _built:
        encoder = build_encoder(spec)
        if not isinstance(encoder, TowerEncoder):
            raise ConfigError(
                f"an encoder of kind {spec.kind} has no towers to put adapters into; encode with an open_clip model"
            )
        _built.clear()  # one at a time: a large model fills a GPU
        _built[key] = encoder
    return _built[key]
