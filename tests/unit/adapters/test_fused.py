"""The fused adapter: its equation, its special cases, and what leaves an image out."""

import pytest
import torch

from tests.adapter_configs import FEW, SINGLE
from tests.factories import make_adapter, make_episodes, make_tuning_data
from tests.reference import slow_closed_form
from tests.reference.slow_fused import fused
from xmadapter.adapters import FusedAdapter, restore_adapter, view_whitening
from xmadapter.adapters.fused import gated
from xmadapter.config import (
    FusedConfig,
    FusedPart,
    GDAConfig,
    PartConfig,
    TipConfig,
    TipFConfig,
    XMAdapterConfig,
    ZeroShotConfig,
)
from xmadapter.training import solve_held_out
from xmadapter.trial import fit_adapter

DATA = make_tuning_data(classes=4, per_class=8, views=4)
EPISODES = make_episodes(DATA, shots=3)
PARTS = [*SINGLE, TipConfig(cache_weight=3), XMAdapterConfig(fit=FEW, text_width=4, ratio="dynamic")]
NEUTRAL = {"view_shrinkage": None}


def make(**parameters: object) -> FusedAdapter:
    adapter = make_adapter(FusedConfig.model_validate(parameters), DATA, EPISODES)
    assert isinstance(adapter, FusedAdapter)
    return adapter


@pytest.mark.parametrize(("shrinkage", "gate"), [(None, 0.0), (0.1, 1.0), (1.0, 0.0), (0.1, 0.0), (None, 0.5)])
def test_it_is_its_slow_reference(shrinkage: float | None, gate: float):
    settings = {"cache_weight": 0.8, "sharpness": 2.0, "regularisation": 0.2, "gate": gate}
    logits = make(view_shrinkage=shrinkage, **settings)(EPISODES.validation)
    for seed, keys in enumerate(EPISODES.keys.tolist()):
        facts = {"labels": EPISODES.labels.tolist(), "text": DATA.text.class_features.tolist()}
        facts |= {"keys": keys, "views": EPISODES.views[seed].tolist(), "scale": DATA.logit_scale}
        reference = [
            fused(query, **facts, h=shrinkage, alpha=0.8, beta=2.0, ridge=0.2, gate=gate)
            for query in EPISODES.validation[seed].tolist()
        ]
        torch.testing.assert_close(
            logits[seed], torch.tensor(reference), atol=2e-3, rtol=0
        )  # scale 100, two eigenbases


def test_with_everything_neutral_it_is_zero_shot():
    zero_shot = make_adapter(ZeroShotConfig(), DATA, EPISODES)(EPISODES.validation)
    silent = ({"adapter": {"kind": "tip"}, "weight": 0},)
    for neutral in (make(cache_weight=0), make(cache_weight=0, parts=silent), make(cache_weight=0, **NEUTRAL)):
        torch.testing.assert_close(neutral(EPISODES.validation), zero_shot, atol=1e-4, rtol=0)
    assert (make()(EPISODES.validation) - zero_shot).abs().max() > 1


def test_the_gate_leaves_a_query_to_zero_shot_where_no_class_gets_more_votes_than_another():
    weak, strong = torch.tensor([[[0.1, 0.0, -0.1, 0.05]]]), torch.tensor([[[40.0, 0.0, -10.0, 5.0]]])
    assert (gated(weak, gate=1.0).abs() <= 0.01 * weak.abs()).all()
    torch.testing.assert_close(gated(strong, gate=1.0), strong)
    assert torch.equal(gated(weak, gate=0.0), weak)


def test_the_gate_holds_for_images_that_are_left_out_as_for_queries():
    adapter = make(gate=1.0, cache_weight=1.0)
    open_, held_out = next(make().held_out_grid({})), next(adapter.held_out_grid({}))
    torch.testing.assert_close(held_out, gated(open_, gate=1.0))
    assert (held_out.abs() <= open_.abs() + 1e-6).all()


def test_on_the_features_as_they_are_it_is_proker():
    logits = make(**NEUTRAL, sharpness=3.0, regularisation=0.1)(EPISODES.validation)
    shared = {"labels": EPISODES.labels.tolist(), "text": DATA.text.class_features.tolist(), "scale": DATA.logit_scale}
    for seed, keys in enumerate(EPISODES.keys.tolist()):
        queries = EPISODES.validation[seed].tolist()
        reference = [slow_closed_form.proker(query, keys=keys, **shared, beta=3.0, ridge=0.1) for query in queries]
        torch.testing.assert_close(logits[seed], torch.tensor(reference), atol=1e-4, rtol=0)


@pytest.mark.parametrize("part", PARTS, ids=lambda config: config.kind)
def test_every_method_is_a_special_case(part: PartConfig):
    alone = fit_adapter(DATA, part, EPISODES)(EPISODES.validation)
    config = FusedConfig(cache_weight=0, parts=(FusedPart(adapter=part),))
    torch.testing.assert_close(fit_adapter(DATA, config, EPISODES)(EPISODES.validation), alone, atol=1e-4, rtol=0)


def test_parts_add_what_they_change_about_zero_shot():
    tip, gda = TipConfig(cache_weight=2), GDAConfig()
    parts = (FusedPart(adapter=tip, weight=0.5), FusedPart(adapter=gda, weight=2))
    images = EPISODES.validation
    zero_shot, one, two = (make_adapter(config, DATA, EPISODES)(images) for config in (ZeroShotConfig(), tip, gda))
    expected = make()(images) + 0.5 * (one - zero_shot) + 2 * (two - zero_shot)
    torch.testing.assert_close(make(parts=parts)(images), expected, atol=1e-3, rtol=0)


def test_training_starts_from_the_closed_form():
    images, adapter = EPISODES.validation, make(fit=FEW.model_dump())
    assert torch.equal(adapter(images), make()(images))
    assert adapter.trained_parameters == 4 * 8
    assert adapter.held_out_images is None
    trained = fit_adapter(DATA, FusedConfig(fit=FEW), EPISODES)
    assert (trained(images) - make()(images)).abs().max() > 0.01


def test_the_residual_is_trained_beside_a_ridge_that_was_fitted_without_the_image():
    adapter, closed = make(fit=FEW.model_dump()), make()
    rows = torch.arange(len(EPISODES.labels)).flip(0).expand(2, -1)
    seed_axis = torch.arange(2)[:, None]
    images, labels = EPISODES.views[seed_axis, rows, 0], EPISODES.labels[rows]
    logits = closed.base_logits(EPISODES.views[:, :, 0]) + next(closed.held_out_grid({}))
    slow = torch.nn.functional.cross_entropy(logits.movedim(-1, 1), EPISODES.labels.expand(2, -1), reduction="none")
    torch.testing.assert_close(adapter.loss(images, labels, rows), slow.mean(dim=1))


def test_parts_and_the_residual_are_trained_one_after_the_other():
    part = FusedPart(adapter=TipFConfig(fit=FEW), weight=0.5)
    both = fit_adapter(DATA, FusedConfig(parts=(part,), fit=FEW), EPISODES)
    alone = fit_adapter(DATA, FusedConfig(parts=(part,)), EPISODES)
    assert isinstance(both, FusedAdapter)
    assert isinstance(alone, FusedAdapter)
    for ours, theirs in zip(both.parts.parameters(), alone.parts.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    restored = restore_adapter(both.config, both.state_dict(), seeds=2)
    assert torch.equal(restored(EPISODES.validation), both(EPISODES.validation))


def test_parts_come_back_from_a_saved_state():
    config = FusedConfig(parts=(FusedPart(adapter=TipFConfig(fit=FEW)), FusedPart(adapter=GDAConfig(), weight=0.1)))
    adapter = fit_adapter(DATA, config, EPISODES)
    restored = restore_adapter(config, adapter.state_dict(), seeds=2)
    assert torch.equal(restored(EPISODES.validation), adapter(EPISODES.validation))
    assert restored.trained_parameters == adapter.trained_parameters == 12 * 8


def test_whitened_views_spread_alike_in_all_directions():
    many = make_episodes(make_tuning_data(classes=4, per_class=8, views=6), shots=8)
    white = many.views @ view_whitening(many.views, shrinkage=1e-6)[:, None]
    spread = (white - white.mean(dim=2, keepdim=True)).flatten(1, 2)
    covariance = spread.mT @ spread
    level = covariance.diagonal(dim1=1, dim2=2).mean(dim=1)[:, None, None]
    torch.testing.assert_close(covariance / level, torch.eye(8).expand(2, -1, -1), atol=1e-3, rtol=0)


def test_without_views_there_is_nothing_to_whiten_by():
    single = EPISODES.views[:, :, :1]
    torch.testing.assert_close(view_whitening(single, shrinkage=0.2), torch.eye(8).expand(2, -1, -1))
    torch.testing.assert_close(
        view_whitening(EPISODES.views, shrinkage=1.0), torch.eye(8).expand(2, -1, -1), atol=1e-5, rtol=0
    )


def test_a_support_image_is_answered_for_without_its_label():
    adapter = make()
    wrong = make_episodes(DATA, shots=3)
    labels = wrong.labels.clone()
    labels[5] = 3
    other = make_adapter(FusedConfig(), DATA, type(wrong)(**{**vars(wrong), "labels": labels}))
    assert isinstance(other, FusedAdapter)
    own, others = next(adapter.held_out_grid({})), next(other.held_out_grid({}))
    torch.testing.assert_close(own[:, 5], others[:, 5], atol=1e-3, rtol=0)
    assert (own[:, 4] - others[:, 4]).abs().max() > 0.1


def test_with_parts_no_image_is_left_out_in_closed_form():
    adapter = make(parts=({"adapter": {"kind": "tip"}},))
    assert adapter.held_out_images is None
    with pytest.raises(ValueError, match="leaves no image out"):
        solve_held_out(adapter, EPISODES, FusedConfig.default_solve)
