"""What holds of trained heads for any sizes and settings, where training starts."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.factories import law, make_adapter, make_episodes, make_tuning_data
from tests.reference import slow_trained as slow
from xmadapter.adapters import Memory, MultiModalAdapter
from xmadapter.config import (
    AdapterConfig,
    APETConfig,
    ClapConfig,
    ClipAdapterConfig,
    LpPlusPlusConfig,
    MetaConfig,
    MultiModalConfig,
    TaskResConfig,
)

_MASK = st.sampled_from(["bias1", "cross", "none"])
_MULTI_MODAL = st.builds(MultiModalConfig, mask=_MASK, width=st.sampled_from([4, 8, 12]), blend=st.floats(0, 0.45))
_ANY = st.one_of(
    st.builds(ClipAdapterConfig, ratio=st.floats(0, 0.8), reduction=st.integers(1, 9)),
    st.builds(TaskResConfig, residual_scale=st.floats(0, 3)),
    st.builds(ClapConfig, penalty=st.floats(0, 10)),
    st.just(LpPlusPlusConfig()),
    st.just(MetaConfig()),
    st.builds(APETConfig, channel_share=st.floats(0.01, 1), surprise_weight=st.floats(0, 1)),
    _MULTI_MODAL,
)
_SIZES = {"classes": st.integers(2, 5), "views": st.integers(1, 3), "seed": st.integers(0, 999)}


@law
@given(config=_ANY, shots=st.integers(1, 5), **_SIZES)
def test_a_batch_of_seeds_equals_a_loop_over_seeds(config: AdapterConfig, shots: int, **sizes: int) -> None:
    data = make_tuning_data(per_class=5, **sizes)
    together, *alone = (make_episodes(data, shots=shots, seeds=seeds) for seeds in ((1, 2, 3), (1,), (2,), (3,)))
    looped = torch.cat([make_adapter(config, data, one)(one.validation) for one in alone])
    batched = make_adapter(config, data, together)(together.validation)
    torch.testing.assert_close(batched, looped, atol=2e-4, rtol=1e-5)  # logits up to 250, in float32


@law
@given(config=_MULTI_MODAL, **_SIZES)
def test_the_multi_modal_adapter_is_its_slow_reference(config: MultiModalConfig, **sizes: int) -> None:
    data = make_tuning_data(**sizes)
    episodes = make_episodes(data, shots=1, seeds=(7,))
    memory = Memory(
        torch.tensor(data.text.class_features), episodes.keys, episodes.labels, data.logit_scale, seeds=(7,)
    )
    adapter = MultiModalAdapter(config, memory)
    layers = {
        name: {"weight": layer.weight[0].tolist(), "bias": layer.bias[0, 0].tolist()}
        for name, layer in adapter.named_children()
    }
    shared = {"text": memory.text.tolist(), "blend": config.blend, "mask": config.mask, "scale": data.logit_scale}
    expected = [slow.multi_modal(row, layers=layers, **shared) for row in episodes.validation[0].tolist()]
    torch.testing.assert_close(adapter(episodes.validation)[0], torch.tensor(expected), atol=1e-4, rtol=0)
