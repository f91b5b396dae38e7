"""What holds of every adapter, whatever its kind."""

import pytest
import torch

from tests.factories import make_adapter, make_episodes, make_tuning_data
from xmadapter.adapters import FeatureAdapter, restore_adapter
from xmadapter.config import (
    AdapterConfig,
    APEConfig,
    APETConfig,
    ClapConfig,
    ClipAdapterConfig,
    FitConfig,
    FusedConfig,
    FusedPart,
    GDAConfig,
    LinearProbeConfig,
    LogisticConfig,
    LpPlusPlusConfig,
    MetaConfig,
    MultiModalConfig,
    ProKeRConfig,
    TaskResConfig,
    TIMOConfig,
    TipConfig,
    TipFConfig,
    XMAdapterConfig,
    ZeroShotConfig,
)
from xmadapter.episodes import EpisodeBatch
from xmadapter.training import fit

TRAINED = {
    "linear-probe": LinearProbeConfig(),
    "tip-f": TipFConfig(),
    "ape-t": APETConfig(),
    "fused-trained": FusedConfig(fit=FitConfig()),
    "xmadapter-fixed": XMAdapterConfig(ratio="fixed", text_width=4, gap="divergence", agreement=0.1),
    "xmadapter-learned": XMAdapterConfig(ratio="learned", text_width=4),
    "xmadapter-dynamic": XMAdapterConfig(ratio="dynamic", text_width=4, gap="true-class"),
    "xmadapter-frozen-keys": XMAdapterConfig(train_keys=False, text_width=4),
    "clip-adapter": ClipAdapterConfig(ratio=0.6, reduction=1),
    "taskres": TaskResConfig(),
    "clap": ClapConfig(penalty=10),
    "meta": MetaConfig(),
    "multi-modal-bias1": MultiModalConfig(width=8, mask="bias1"),
    "multi-modal-cross": MultiModalConfig(width=8, mask="cross"),
    "multi-modal-none": MultiModalConfig(width=8, mask="none"),
}
COMPUTED = {
    "zero-shot": ZeroShotConfig(),
    "tip": TipConfig(),
    "gda": GDAConfig(),
    "gda-shrunk": GDAConfig(shrinkage=0.3),
    "proker": ProKeRConfig(),
    "ape": APEConfig(),
    "timo": TIMOConfig(),
    "logistic": LogisticConfig(),
    "fused": FusedConfig(),
    "fused-parts": FusedConfig(parts=(FusedPart(adapter=TipConfig()), FusedPart(adapter=GDAConfig(), weight=0.1))),
}
EVERY = {**COMPUTED, "lp++": LpPlusPlusConfig(), **TRAINED}
FEW_STEPS = FitConfig(epochs=4, learning_rate=0.01, batch_size=4)
DATA = make_tuning_data(per_class=8)

every = pytest.mark.parametrize("config", EVERY.values(), ids=EVERY)
trained = pytest.mark.parametrize("config", TRAINED.values(), ids=TRAINED)


def fitted(config: AdapterConfig, episodes: EpisodeBatch) -> FeatureAdapter:
    adapter = make_adapter(config, DATA, episodes)
    if getattr(config, "fit", None) is not None:
        fit(adapter, episodes, FEW_STEPS)
    return adapter


def permuted(episodes: EpisodeBatch) -> EpisodeBatch:
    order = torch.randperm(len(episodes.labels), generator=torch.Generator().manual_seed(0))
    views, norms, labels = episodes.views[:, order], episodes.norms[:, order], episodes.labels[order]
    return EpisodeBatch(
        episodes.shots, episodes.seeds, views, norms, labels, episodes.validation, episodes.validation_labels
    )


@every
def test_permuting_the_support_changes_no_logit(config: AdapterConfig):
    episodes = make_episodes(DATA, shots=3)
    assert not torch.equal(permuted(episodes).labels, episodes.labels)
    logits = [make_adapter(config, DATA, one)(episodes.validation) for one in (episodes, permuted(episodes))]
    torch.testing.assert_close(*logits, atol=1e-4, rtol=0)  # float32 sums in another order


@every
def test_a_batch_of_seeds_equals_a_loop_over_seeds(config: AdapterConfig):
    together = make_episodes(DATA, shots=3, seeds=(1, 2, 3))
    alone = [make_episodes(DATA, shots=3, seeds=(seed,)) for seed in (1, 2, 3)]
    looped = torch.cat([make_adapter(config, DATA, one)(one.validation) for one in alone])
    batched = make_adapter(config, DATA, together)(together.validation)
    torch.testing.assert_close(batched, looped, atol=1e-4, rtol=0)  # float32 products of another shape


@trained
def test_a_batch_of_seeds_trains_like_a_loop_over_seeds(config: AdapterConfig):
    together = make_episodes(DATA, shots=3, seeds=(1, 2, 3))
    alone = [make_episodes(DATA, shots=3, seeds=(seed,)) for seed in (1, 2, 3)]
    looped = torch.cat([fitted(config, one)(one.validation) for one in alone])
    batched = fitted(config, together)(together.validation)
    torch.testing.assert_close(batched, looped, atol=1e-3, rtol=0)  # rounding of 12 steps, seen: below 1e-4
    assert (batched - make_adapter(config, DATA, together)(together.validation)).abs().max() > 0.1


@every
def test_a_saved_state_restores_the_same_logits(config: AdapterConfig):
    episodes = make_episodes(DATA, shots=2)
    adapter = fitted(config, episodes)
    restored = restore_adapter(config, adapter.state_dict(), seeds=2)
    assert torch.equal(restored(episodes.validation), adapter(episodes.validation))
    assert restored.trained_parameters == adapter.trained_parameters
    assert restored.stored_bytes == adapter.stored_bytes


@every
def test_one_query_and_many_agree(config: AdapterConfig):
    episodes = make_episodes(DATA, shots=2)
    adapter = fitted(config, episodes)
    rows = torch.cat([adapter(row) for row in episodes.validation.split(1, dim=1)], dim=1)
    torch.testing.assert_close(
        rows, adapter(episodes.validation), atol=1e-4, rtol=0
    )  # float32 products of another shape


@every
def test_one_set_of_queries_is_scored_by_all_seeds(config: AdapterConfig):
    episodes = make_episodes(DATA, shots=2)
    adapter = fitted(config, episodes)
    shared = adapter(episodes.validation[:1])
    torch.testing.assert_close(
        shared[0], adapter(episodes.validation)[0], atol=1e-4, rtol=0
    )  # products of another shape
    assert shared.shape == (2, 6, 3)


def test_a_state_of_another_kind_is_refused():
    state = make_adapter(LinearProbeConfig(), DATA, make_episodes(DATA, seeds=(1,))).state_dict()
    with pytest.raises(RuntimeError, match="Missing key"):
        restore_adapter(TipConfig(), state)


def test_a_state_without_a_text_is_refused():
    state = make_adapter(TipConfig(), DATA, make_episodes(DATA, seeds=(1,))).state_dict()
    del state["text"]
    with pytest.raises(RuntimeError):
        restore_adapter(TipConfig(), state)


@every
def test_stored_bytes_are_those_of_one_seed(config: AdapterConfig):
    alone, together = (make_adapter(config, DATA, make_episodes(DATA, seeds=seeds)) for seeds in ((1,), (1, 2, 3)))
    assert alone.stored_bytes == together.stored_bytes == sum(part.nbytes for part in alone.state_dict().values())
