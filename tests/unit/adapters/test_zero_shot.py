"""The text classifier."""

import torch

from tests.factories import make_adapter, make_episodes, make_tuning_data
from tests.reference import slow_adapters as slow
from xmadapter.config import ZeroShotConfig


def test_logits_are_scaled_cosines_to_the_class_texts():
    episodes = make_episodes(data := make_tuning_data())
    logits = make_adapter(ZeroShotConfig(), data, episodes)(episodes.validation)
    text = data.text.class_features.tolist()
    expected = [
        [slow.zero_shot(row, text=text, scale=data.logit_scale) for row in one] for one in episodes.validation.tolist()
    ]
    torch.testing.assert_close(logits, torch.tensor(expected), atol=1e-4, rtol=0)  # float32 against float64


def test_class_text_is_the_mean_of_its_prompts_normalised_again():
    data = make_tuning_data(classes=4)
    expected = [slow.unit(slow.mean(prompts)) for prompts in data.text.features.tolist()]
    torch.testing.assert_close(torch.from_numpy(data.text.class_features), torch.tensor(expected), atol=1e-6, rtol=0)


def test_all_seeds_give_the_same_logits_and_nothing_is_trained():
    episodes = make_episodes(data := make_tuning_data(), seeds=(1, 2, 3))
    adapter = make_adapter(ZeroShotConfig(), data, episodes)
    logits = adapter(episodes.validation[:1])
    assert logits.shape == (3, 6, 3)
    assert (logits == logits[0]).all()
    assert adapter.trained_parameters == 0
