"""From the frames of a video to its similarity with a text: their mean, or a mean that the text weights."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

__all__ = ["mean_pool", "text_conditioned_similarity"]


def mean_pool(
    frames: Float[Tensor, "videos frames dim"], present: Bool[Tensor, "videos frames"]
) -> Float[Tensor, "videos dim"]:
    """Average the frames of each video.

    Args:
        frames: Features of the frames.
        present: False where a short video was padded; such a frame weighs nothing, whatever it holds.

    Raises:
        ValueError: A video has no frame.
    """
    _check(present)
    kept = frames.masked_fill(~present[..., None], 0)
    return kept.sum(dim=1) / present.sum(dim=1, keepdim=True)


def text_conditioned_similarity(
    text: Float[Tensor, "texts dim"],
    frames: Float[Tensor, "videos frames dim"],
    present: Bool[Tensor, "videos frames"],
    *,
    temperature: float = 5.0,
) -> Float[Tensor, "texts videos"]:
    """Take the cosine of each text with each video as that text sees it.

    Frame j of a video weighs softmax_j(<t, f_j> / temperature), and the video is the weighted mean (Jiang et al., arXiv
    2211.09623, section 3.3). With one frame this is the cosine with that frame. The means themselves, one per text and video,
    are never made: with weights w, <t, Σ w f> = Σ w <t, f> and |Σ w f|² = w'Gw, where G holds the products of a video's frames.

    Args:
        text: Features as the tower gives them: their length counts, so they are not normalised.
        frames: Likewise.
        present: False where a short video was padded.
        temperature: The larger, the closer to the plain mean; the paper's τ.

    Returns:
        Cosines in [-1, 1], before any logit scale.

    Raises:
        ValueError: A video has no frame.
    """
    _check(present)
    with torch.autocast(text.device.type, enabled=False):  # lengths are small differences of squares
        # At least float32; who ranks passes float64, so that equal embeddings tie.
        text, frames = (one.to(torch.promote_types(one.dtype, torch.float32)) for one in (text, frames))
        frames = frames.masked_fill(~present[..., None], 0)
        products = torch.einsum("td,vfd->tvf", text, frames)
        weights = (products / temperature).masked_fill(~present, -torch.inf).softmax(dim=-1)
        lengths = torch.einsum("tvf,vfg,tvg->tv", weights, frames @ frames.mT, weights).clamp_min(1e-12).sqrt()
        return (weights * products).sum(dim=-1) / (lengths * text.norm(dim=-1, keepdim=True))


def _check(present: Bool[Tensor, "videos frames"]) -> None:
    if not bool(present.any(dim=1).all()):
        raise ValueError(f"video {int((~present.any(dim=1)).nonzero()[0])} has no frame; leave it out")
