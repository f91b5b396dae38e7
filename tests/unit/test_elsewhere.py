"""Test splits that the adapter was not made for."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.adapter_configs import EVERY, FEW
from tests.factories import PROVENANCE, make_episodes, make_test_set, make_tuning_data
from xmadapter.adapters import unseen_logits, zero_shot_logits
from xmadapter.config import AdapterConfig, ClipAdapterConfig, FusedConfig, FusedPart, MultiModalConfig, TipConfig
from xmadapter.elsewhere import Elsewhere, check_elsewhere, score_elsewhere
from xmadapter.errors import DataError, FingerprintMismatch
from xmadapter.features import TestSet, base_classes
from xmadapter.final import run_final
from xmadapter.trial import TrialConfig, fit_adapter, run_trial

WHOLE = make_tuning_data(classes=5, per_class=8)
BASE = WHOLE.base
TEST = make_test_set(classes=5, per_class=15)
NOVEL = Elsewhere("novel classes", TEST.of_classes(3, 5), WHOLE.text.of_classes(3, 5))
CLASS_AGNOSTIC = (ClipAdapterConfig, MultiModalConfig)


def make_choice(adapter: AdapterConfig):
    return run_trial(BASE, TrialConfig(method=adapter.title, adapter=adapter, shots=2, seeds=(1, 2, 3)))


@pytest.mark.parametrize(("classes", "base"), [(1, 1), (2, 1), (5, 3), (100, 50), (101, 51)])
def test_base_classes_are_the_first_half(classes: int, base: int):
    assert base_classes(classes) == base


def test_base_data_hold_no_image_and_no_text_of_a_novel_class():
    assert BASE.text.class_names == ("class 0", "class 1", "class 2")
    assert np.array_equal(BASE.text.features, WHOLE.text.features[:3])
    for part, whole in ((BASE.train, WHOLE.train), (BASE.validation, WHOLE.validation)):
        assert {name.split("/")[1] for name in part.ids} == {"0", "1", "2"}
        assert len(part) == 24
        assert np.array_equal(part.features, whole.features[:24])


def test_novel_classes_are_counted_from_their_first():
    assert NOVEL.test.data.labels.tolist() == [0] * 15 + [1] * 15
    assert all(name.startswith(("test/3/", "test/4/")) for name in NOVEL.test.data.ids)


@pytest.mark.parametrize("config", EVERY, ids=lambda config: config.kind)
def test_what_belongs_to_classes_says_nothing_of_others(config: AdapterConfig):
    adapter = fit_adapter(BASE, config, make_episodes(BASE))
    image, text = torch.tensor(NOVEL.test.data.features[:, 0])[None], torch.tensor(NOVEL.text.class_features)
    logits = unseen_logits(adapter, image, text)
    zero_shot = zero_shot_logits(image, text, logit_scale=WHOLE.logit_scale)
    if isinstance(config, CLASS_AGNOSTIC):
        assert logits.shape == (2, 30, 2)
        assert (logits - zero_shot).abs().max() > 0.01
        # The same features changed the same way: on the base texts it is the adapter itself.
        own = torch.tensor(BASE.text.class_features)
        torch.testing.assert_close(unseen_logits(adapter, image, own), adapter(image))
    else:
        torch.testing.assert_close(logits, zero_shot)


def test_a_part_that_changes_features_changes_those_of_other_classes_too():
    part = ClipAdapterConfig(fit=FEW)
    fused = fit_adapter(BASE, FusedConfig(cache_weight=0, parts=(FusedPart(adapter=part),)), make_episodes(BASE))
    alone = fit_adapter(BASE, part, make_episodes(BASE))
    image, text = torch.tensor(NOVEL.test.data.features[:, 0])[None], torch.tensor(NOVEL.text.class_features)
    torch.testing.assert_close(unseen_logits(fused, image, text), unseen_logits(alone, image, text))


def test_the_final_test_scores_both_halves_and_their_harmonic_mean():
    result, _ = next(run_final(BASE, TEST.of_classes(0, 3), [make_choice(ClipAdapterConfig(fit=FEW))], [NOVEL]))
    (novel,) = result.elsewhere
    assert (novel.name, novel.unseen, novel.test_rows, len(novel.test)) == ("novel classes", True, 30, 3)
    assert novel.digest == NOVEL.test.digest
    expected = [2 * b * n / (b + n) for b, n in zip(result.test, novel.test, strict=True)]
    assert result.harmonic(novel).estimate == pytest.approx(np.mean(expected))


def test_the_harmonic_mean_of_nothing_is_nothing():
    result, _ = next(run_final(BASE, TEST.of_classes(0, 3), [make_choice(TipConfig())], [NOVEL]))
    nothing = result.model_copy(update={"test": (0.0,) * 3})
    assert nothing.harmonic(result.elsewhere[0].model_copy(update={"test": (0.0,) * 3})).estimate == 0


def test_shifted_images_are_classified_among_the_classes_that_exist_there():
    # Classes 4 and 1 of the trained ones, in this order.
    rows = np.concatenate([np.arange(60, 75), np.arange(15, 30)])
    picked = replace(TEST.data.take(rows), labels=np.repeat([0, 1], 15))
    text = replace(WHOLE.text, features=WHOLE.text.features[[4, 1]], class_names=("class 4", "class 1"))
    adapter = fit_adapter(WHOLE, TipConfig(), make_episodes(WHOLE))
    found = score_elsewhere(
        adapter, WHOLE.text.class_names, Elsewhere("sketches", TestSet(picked, PROVENANCE), text), seeds=2
    )
    logits = adapter(torch.tensor(picked.features[:, 0])[None])
    guess = torch.where(logits[..., 4] >= logits[..., 1], 0, 1)
    assert found.test == tuple((guess == torch.tensor(picked.labels)).double().mean(dim=-1).tolist())
    assert not found.unseen
    assert min(found.test) > 0.5


def test_a_store_of_another_encoder_is_refused():
    with pytest.raises(FingerprintMismatch, match="sketches was encoded by another"):
        check_elsewhere(WHOLE, "sketches", encoder_fingerprint="another", class_names=WHOLE.text.class_names)


def test_a_store_with_some_trained_classes_and_some_others_is_refused():
    with pytest.raises(DataError, match=r"sketches has 1 of 2 classes that were not trained \(owl\)"):
        check_elsewhere(
            WHOLE, "sketches", encoder_fingerprint=PROVENANCE.encoder_fingerprint, class_names=("class 1", "owl")
        )


def test_an_empty_split_is_refused():
    empty = Elsewhere("sketches", TEST.of_classes(5, 9), WHOLE.text)
    adapter = fit_adapter(WHOLE, TipConfig(), make_episodes(WHOLE))
    with pytest.raises(DataError, match="the test split of sketches holds no image"):
        score_elsewhere(adapter, WHOLE.text.class_names, empty, seeds=2)
