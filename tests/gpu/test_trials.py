"""Trials on a GPU: every method finds there what it finds on the CPU, up to sums in another order."""

import pytest
import torch

from tests.adapter_configs import EVERY
from tests.factories import make_episodes, make_tuning_data
from xmadapter.config import AdapterConfig
from xmadapter.trial import fit_adapter

if not torch.cuda.is_available():
    pytest.skip("no GPU in this process", allow_module_level=True)

DATA = make_tuning_data(classes=4, per_class=6, views=3)
EPISODES = make_episodes(DATA, shots=3)


@pytest.mark.parametrize("adapter", EVERY, ids=lambda config: config.kind)
def test_a_head_fitted_on_a_gpu_gives_the_logits_of_one_fitted_on_the_cpu(adapter: AdapterConfig):
    here, there = (fit_adapter(DATA, adapter, EPISODES.to(device)) for device in ("cpu", "cuda"))
    with torch.no_grad():
        on_cpu, on_gpu = here(EPISODES.validation), there(EPISODES.validation.to("cuda")).cpu()
    assert {parameter.device.type for parameter in there.parameters()} <= {"cuda"}
    torch.testing.assert_close(on_gpu, on_cpu, atol=2e-2, rtol=1e-3)  # logits of tens
