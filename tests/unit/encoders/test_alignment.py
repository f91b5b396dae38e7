"""The alignment's pieces, on made data."""

import pytest
import torch

pytest.importorskip("transformers")
pytest.importorskip("timm")

import torch.nn.functional as F

from xmadapter.encoders.alignment import Score, class_texts, cross_validate, image_axes, mean_feature, select

RNG = torch.Generator().manual_seed(0)


def test_the_sign_of_an_axis_does_not_depend_on_the_decomposition():
    rows = torch.randn(40, 12, generator=RNG)
    axes, strengths = image_axes(rows)
    mirrored, _ = image_axes(rows.flip(0))
    torch.testing.assert_close(axes, mirrored, atol=1e-9, rtol=0)  # float64
    assert (axes.gather(1, axes.abs().argmax(1, keepdim=True)) > 0).all()
    assert (strengths.diff() <= 0).all()


def test_axes_are_orthonormal_and_span_the_centred_rows():
    rows = torch.randn(40, 12, generator=RNG, dtype=torch.float64)
    axes, _ = image_axes(rows)
    centred = rows - rows.mean(0)
    torch.testing.assert_close(axes @ axes.T, torch.eye(12, dtype=torch.float64))
    torch.testing.assert_close(centred @ axes.T @ axes, centred)


def test_the_mean_feature_equals_the_mean_of_many_draws():
    weight, bias = torch.tensor([0.0, 0.5, -2.0, 4.0]), torch.tensor([1.0, -0.3, 1.5, 5.0])
    draws = torch.randn(400_000, 4, generator=RNG) * weight + bias
    # Four standard errors: deviations up to 2.5 over sqrt(400,000).
    torch.testing.assert_close(mean_feature(weight, bias).float(), draws.clamp(0, 6).mean(0), atol=0.016, rtol=0)


def test_every_class_has_a_prompt_a_name_and_a_definition():
    texts, classes, prompts = class_texts()
    assert len(prompts) == 1000
    assert classes.bincount().min() >= 3
    assert torch.equal(classes[prompts], torch.arange(1000))
    assert texts[prompts[0]] == "a photo of a tench."
    assert "tench" in texts
    assert len(texts) == 4720


def test_linear_texts_find_their_held_out_prototypes_and_unrelated_ones_do_not():
    texts = torch.randn(200, 16, generator=RNG, dtype=torch.float64)
    prototypes = F.normalize(texts @ torch.randn(16, 8, generator=RNG, dtype=torch.float64), dim=1)
    own = torch.arange(200)
    linear = cross_validate(texts, own, own, prototypes, ridge=1e-3, split=0)
    unrelated = cross_validate(texts, own, own, prototypes[torch.randperm(200, generator=RNG)], ridge=1e-3, split=0)
    assert linear[:, 1].double().mean() < 1.5
    assert 7 < unrelated[:, 1].double().mean() < 14  # chance is 10.5 of 20


def test_the_choice_has_the_best_rank_among_those_within_one_standard_error():
    def score(top1: float, mean_rank: float) -> Score:
        return Score(scaling=0.0, ridge=0.0, top1=top1, median_rank=0.0, mean_rank=mean_rank)

    # The standard error at 0.5 over 1,000 classes is 0.0158.
    assert select([score(0.50, 30.0), score(0.49, 20.0), score(0.48, 10.0)]).mean_rank == 20
