"""A final test whose fits run side by side finds what one process finds, in the same order."""

from collections.abc import Iterator

import numpy as np
import pytest
import ray
import torch

from tests.factories import PROVENANCE, make_test_set, make_tuning_data
from xmadapter.config import ClusterConfig, FitConfig, TipConfig, TipFConfig, ZeroShotConfig
from xmadapter.distributed.final import score_on_cluster
from xmadapter.errors import FingerprintMismatch
from xmadapter.features import Provenance
from xmadapter.jobs import score_here
from xmadapter.trial import TrialConfig, run_trial

pytestmark = pytest.mark.timeout(300)  # Ray starts on a machine that may be busy

DATA = make_tuning_data(classes=4, per_class=8)
ADAPTERS = (TipFConfig(fit=FitConfig(epochs=30)), ZeroShotConfig(), TipConfig())  # the slowest first


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield
    ray.shutdown()


@pytest.fixture
def one_thread() -> Iterator[None]:
    """What a fit has on a cluster: the order of a sum may depend on the number of threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("one_thread")
def test_results_are_those_of_one_process_in_the_order_of_the_choices():
    choices = [
        run_trial(DATA, TrialConfig(method=adapter.title, adapter=adapter, shots=2, seeds=(1, 2, 3)))
        for adapter in ADAPTERS
    ]
    test = make_test_set(classes=4, per_class=15)
    there = list(score_on_cluster(DATA, test, choices, (), ClusterConfig()))
    here = list(score_here(DATA, test, choices, (), ClusterConfig()))
    assert [result.choice.method for result, _ in there] == [adapter.title for adapter in ADAPTERS]
    for (on_cluster, predicted), (alone, expected) in zip(there, here, strict=True):
        assert np.array_equal(predicted, expected)
        assert on_cluster.model_copy(update={"seconds": 0.0}) == alone.model_copy(update={"seconds": 0.0})


def test_an_error_arrives_as_what_it_is():
    choice = run_trial(DATA, TrialConfig(method="Tip", adapter=TipConfig(), shots=2, seeds=(1,)))
    other = make_test_set(classes=4, provenance=Provenance(**{**vars(PROVENANCE), "plan_fingerprint": "another"}))
    with pytest.raises(FingerprintMismatch, match="nothing was scored"):
        list(score_on_cluster(DATA, other, [choice], (), ClusterConfig()))
