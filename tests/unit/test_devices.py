"""Trials and the final test run where they are told to, and find there what they find on the CPU."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from tests.adapter_configs import EVERY
from tests.factories import make_test_set, make_tuning_data
from tests.fake_device import CUDA, FakeCuda
from xmadapter.config import AdapterConfig
from xmadapter.final import run_final
from xmadapter.trial import TrialConfig, TrialResult, run_trial

DATA = make_tuning_data(classes=4, per_class=6, views=3)
TEST = make_test_set(classes=4, per_class=5)


@pytest.fixture
def cuda() -> Iterator[torch.device]:
    with FakeCuda():
        yield CUDA


def result_on(device: torch.device | str, adapter: AdapterConfig) -> TrialResult:
    solve = getattr(adapter, "default_solve", {})
    config = TrialConfig(method=adapter.title, adapter=adapter, solve=solve, shots=3, seeds=(1, 2))
    result = run_trial(DATA, config, device=device)
    return result.model_copy(update={"seconds": 0, "latency_us": 0})


@pytest.mark.parametrize("adapter", EVERY, ids=lambda config: config.kind)
def test_a_trial_and_its_final_test_find_on_a_device_what_they_find_on_the_cpu(adapter: AdapterConfig):
    here = result_on("cpu", adapter)
    with FakeCuda():
        there = result_on(CUDA, adapter)
        ((_, on_device),) = run_final(DATA, TEST, [there], device=CUDA)
    ((_, on_cpu),) = run_final(DATA, TEST, [here])
    assert there == here
    np.testing.assert_array_equal(on_device, on_cpu)


def test_the_fake_device_refuses_what_cuda_refuses(cuda: torch.device):
    near, far = torch.ones(2, 3), torch.ones(2, 3, device=cuda)
    assert (near.device.type, far.device.type, (far * 2).device.type, far.cpu().device.type) == (
        "cpu",
        "cuda",
        "cuda",
        "cpu",
    )
    with pytest.raises(RuntimeError, match="two devices"):
        torch.add(near, far)
    with pytest.raises(RuntimeError, match="two devices"):
        torch.cat([far, near])
    with pytest.raises(TypeError, match="copy it to the CPU"):
        far.numpy()
    assert far[torch.tensor([0])].device.type == "cuda"  # an index may stay on the CPU
    assert (far * torch.tensor(2.0)).device.type == "cuda"  # and so may a number
    assert torch.nn.Linear(3, 1).to(cuda)(far).device.type == "cuda"
