"""Pairs of texts and videos, compared as each text weights the video's frames."""

from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from xmadapter.encoder_adapters import text_conditioned_similarity
from xmadapter.evaluation.retrieval import Scores
from xmadapter.retrieval.sides import Side, all_rows

__all__ = ["FrameSides"]

_WEIGHTS_AT_ONCE = 2**22  # of a text and a frame; in float64 32 MB, of which a few copies live at once


@dataclass(frozen=True)
class FrameSides:
    """Sides of which one is the frames of videos; for `fit_contrastive`, as `Sides` is.

    Frame j of a video weighs softmax_j(s cos(t, f_j) / τ) for the text t, with the logit scale s, and the score is the cosine of t with
    the weighted mean of the normalised frames. So a single frame gives its cosine, and a large τ the mean that the other pooling takes.

    Args:
        text: By pair.
        frame: By frame, those of one video after another.
        counts: Frames of each video, at least one.
        items: Which video each pair shows.
        logit_scale: Multiplier from cosine to logit.
        temperature: τ.
    """

    text: Side
    frame: Side
    counts: Int[Tensor, " videos"]
    items: Int[Tensor, " pairs"]
    logit_scale: float
    temperature: float

    def logits(self, rows: Int[Tensor, " batch"], /) -> Float[Tensor, "batch batch"]:
        """Compare each text of these rows with each of their videos."""
        frames, present = self._padded(self.frame, self.items[rows])
        return self.logit_scale * self._similarity(self.text(rows), frames, present)

    @torch.no_grad()
    def scores(self, text: Float[Tensor, "texts dim"]) -> Scores:
        """Compute all frames, and score texts against videos; in float64, rounded to float32, as `cosine_scores` does and why.

        Args:
            text: Features of any length, on the CPU.
        """
        every = all_rows(self.frame, int(self.counts.sum())).double()
        frames, present = self._padded(lambda rows: every[rows], torch.arange(len(self.counts)))
        at_once = max(1, _WEIGHTS_AT_ONCE // present.numel())

        def score(rows: Int[Tensor, " rows"]) -> Float[Tensor, "rows videos"]:
            parts = text[rows].double().split(at_once)
            return torch.cat([self._similarity(part, frames, present).float() for part in parts])

        return score

    def _similarity(
        self,
        text: Float[Tensor, "texts dim"],
        frames: Float[Tensor, "videos frames dim"],
        present: Bool[Tensor, "videos frames"],
    ) -> Float[Tensor, "texts videos"]:
        with torch.autocast(text.device.type, enabled=False):
            queries, units = (
                F.normalize(one.to(torch.promote_types(one.dtype, torch.float32)), dim=-1) for one in (text, frames)
            )
        return text_conditioned_similarity(self.logit_scale * queries, units, present, temperature=self.temperature)

    def _padded(
        self, side: Side, videos: Int[Tensor, " videos"]
    ) -> tuple[Float[Tensor, "videos frames dim"], Bool[Tensor, "videos frames"]]:
        """Features of these videos' frames, and which of them are no padding."""
        counts = self.counts[videos]
        place = torch.arange(int(counts.max()))
        present = place < counts[:, None]
        features = side((self._starts[videos][:, None] + place)[present])
        frames = features.new_zeros(*present.shape, features.shape[-1])
        there = present.to(features.device)
        frames[there] = features
        return frames, there

    @cached_property
    def _starts(self) -> Int[Tensor, " videos"]:
        return self.counts.cumsum(0) - self.counts
