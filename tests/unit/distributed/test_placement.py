"""How many trials and encoders fit, on CPU cores or on shares of GPUs."""

import pytest
import ray

from xmadapter.config import ClusterConfig
from xmadapter.distributed.connect import encoder_gpus, trial_slots
from xmadapter.errors import ConfigError


@pytest.fixture
def holds(monkeypatch: pytest.MonkeyPatch):
    """Make Ray say that the cluster holds this."""
    return lambda **resources: monkeypatch.setattr(ray, "cluster_resources", lambda: resources)


def test_trials_take_cores_unless_they_ask_for_a_share_of_a_gpu(holds):
    holds(CPU=16.0, GPU=2.0)
    assert trial_slots(ClusterConfig()) == 16
    assert trial_slots(ClusterConfig(trial_gpus=0.25)) == 8
    assert trial_slots(ClusterConfig(trial_gpus=1)) == 2


def test_where_nodes_start_on_demand_room_is_made_for_what_is_asked(holds):
    holds(memory=1.0)  # a head without cores
    assert trial_slots(ClusterConfig(address="auto")) == 1
    assert trial_slots(ClusterConfig(address="auto", trials_at_once=64, trial_gpus=0.5)) == 64


def test_a_machine_without_a_gpu_says_so_before_anything_runs(holds):
    holds(CPU=4.0)
    with pytest.raises(ConfigError, match="set it to 0, or join a cluster"):
        trial_slots(ClusterConfig(trial_gpus=0.5))


def test_encoders_take_a_gpu_where_there_is_one_or_where_they_are_told_to(holds):
    holds(CPU=4.0)
    assert [encoder_gpus(ClusterConfig(encoder_gpus=share)) for share in (None, 0, 0.5)] == [0, 0, 0.5]
    holds(CPU=4.0, GPU=1.0)
    assert [encoder_gpus(ClusterConfig(encoder_gpus=share)) for share in (None, 0, 0.5)] == [1, 0, 0.5]
