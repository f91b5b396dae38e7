"""Pooling of frames: by their mean, and as a text sees them."""

import pytest
import torch
import torch.nn.functional as F

from tests.reference import slow_retrieval as slow
from xmadapter.encoder_adapters import mean_pool, text_conditioned_similarity

PRESENT = torch.tensor([[True, True, True, True], [True, False, False, False], [True, True, False, False]])


def drawn(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(5, 8, generator=generator), torch.randn(3, 4, 8, generator=generator)


@pytest.mark.parametrize("temperature", [0.5, 5.0])
def test_a_text_weights_the_frames_as_the_equation_says(temperature):
    text, frames = drawn()
    found = text_conditioned_similarity(text, frames, PRESENT, temperature=temperature)
    for video, present in enumerate(PRESENT):
        kept = frames[video][present].tolist()
        expected = [slow.text_conditioned(one, kept, temperature=temperature) for one in text.tolist()]
        torch.testing.assert_close(found[:, video], torch.tensor(expected), atol=1e-6, rtol=0)


def test_padded_frames_weigh_nothing_whatever_they_hold():
    text, frames = drawn()
    spoilt = frames.masked_fill(~PRESENT[..., None], float("nan"))
    assert torch.equal(mean_pool(spoilt, PRESENT), mean_pool(frames, PRESENT))
    plain, other = (text_conditioned_similarity(text, one, PRESENT) for one in (frames, spoilt))
    assert torch.equal(plain, other)
    torch.testing.assert_close(mean_pool(frames, PRESENT)[2], frames[2, :2].mean(dim=0))


def test_one_frame_is_itself_under_either_pooling():
    text, frames = drawn()
    one = PRESENT[:, :1]
    pooled = mean_pool(frames[:, :1], one)
    expected = F.normalize(text, dim=-1) @ F.normalize(pooled, dim=-1).T
    torch.testing.assert_close(text_conditioned_similarity(text, frames[:, :1], one), expected, atol=1e-6, rtol=0)


def test_the_hotter_the_closer_to_the_mean():
    text, frames = drawn()
    mean = F.normalize(text, dim=-1) @ F.normalize(mean_pool(frames, PRESENT), dim=-1).T
    gaps = [
        (text_conditioned_similarity(text, frames, PRESENT, temperature=temperature) - mean).abs().max()
        for temperature in (1.0, 10.0, 1e6)
    ]
    assert gaps[0] > gaps[1] > gaps[2]
    assert gaps[2] < 1e-4


def test_a_video_without_frames_is_refused():
    text, frames = drawn()
    with pytest.raises(ValueError, match="video 1 has no frame"):
        text_conditioned_similarity(text, frames, PRESENT & torch.tensor([[True], [False], [True]]))
    with pytest.raises(ValueError, match="video 0 has no frame"):
        mean_pool(frames, torch.zeros_like(PRESENT))
