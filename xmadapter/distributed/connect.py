"""connect: join or start Ray, once, quietly."""

import json
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import ray

from xmadapter.config import ClusterConfig
from xmadapter.errors import ConfigError, RetryLater

__all__ = ["connect", "cores", "encoder_gpus", "gpus", "submission_id", "trial_slots"]


def connect(cluster: ClusterConfig) -> None:
    """Start Ray on this machine, or join the cluster of a submitted job.

    Raises:
        RetryLater: No cluster answers at the address.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Its C++ side writes to the terminal past every logger, about actors that Ray Data restarts by itself.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    # Ray's own reports of tasks and trials; ours are the progress bar and the ledger.
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    for name in ("ray", "ray.data", "ray.tune"):
        logging.getLogger(name).setLevel(logging.ERROR)
    if ray.is_initialized():
        return
    local = cluster.address == "local"
    try:
        with _silent_stderr():
            ray.init(
                address=cluster.address,
                include_dashboard=False if local else None,
                logging_level=logging.ERROR,
                log_to_driver=False,
            )
    except ConnectionError as error:
        raise RetryLater(
            f"no Ray cluster answers at {cluster.address}; start one, or set cluster.address=local"
        ) from error


@contextmanager
def _silent_stderr() -> Iterator[None]:
    """Send what is written to the file descriptor away: Ray's C++ side announces there that it will be quiet."""
    sys.stderr.flush()
    kept, away = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(away, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(away)


def cores() -> int:
    """CPU cores of the cluster as it is now."""
    return int(ray.cluster_resources().get("CPU", 1))


def gpus() -> int:
    """GPUs of the cluster as it is now."""
    return int(ray.cluster_resources().get("GPU", 0))


def encoder_gpus(cluster: ClusterConfig) -> float:
    """Share of a GPU that an encoder takes; 0 for the CPU."""
    return float(gpus() > 0) if cluster.encoder_gpus is None else cluster.encoder_gpus


def trial_slots(cluster: ClusterConfig) -> int:
    """Trials that run side by side, or will when the cluster has grown.

    Raises:
        ConfigError: Trials ask for a GPU, and this machine has none.
    """
    if cluster.trial_gpus and cluster.address == "local" and not gpus():
        raise ConfigError(
            "cluster.trial_gpus asks for a GPU, and Ray finds none here; set it to 0, or join a cluster that has one"
        )
    room = gpus() / cluster.trial_gpus if cluster.trial_gpus else cores()
    return cluster.trials_at_once or max(1, int(room))


def submission_id() -> str | None:
    """Id of the `ray job submit` that this process is the driver of; None where there is none."""
    config = json.loads(os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR") or "{}")
    return config.get("metadata", {}).get("job_submission_id")
