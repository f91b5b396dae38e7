"""examine: what a cluster can do, asked of every node, before a job finds out.

Nodes report facts; `judge` compares them with those of the driver and says what to do.
"""

import os
import platform
import secrets
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

import ray
import ray.exceptions
import torch
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from xmadapter.config import TrackingConfig
from xmadapter.config.doctor import DoctorConfig
from xmadapter.distributed.connect import connect
from xmadapter.errors import XMAdapterError
from xmadapter.storage import join, put_if_absent, read_bytes, remove
from xmadapter.tracking.client import make_client, masked, reason, tracking_uri

__all__ = ["Finding", "NodeFacts", "examine", "judge"]

MAX_DRIFT_S = 5.0
"""A clock further off than this makes times in MLflow and the age of orphans wrong."""

_PACKAGES = ("numpy", "open_clip_torch", "pillow", "pyarrow", "ray", "torch", "torchvision", "xmadapter")


@dataclass(frozen=True)
class Finding:
    """One thing that was checked.

    Args:
        state: `warn` is worth reading, `fail` will cost a job.
        check: What was looked at.
        place: Node, or `driver`.
        found: What is there, and what to do about it unless it is fine.
    """

    state: Literal["ok", "warn", "fail"]
    check: str
    place: str
    found: str

    def __str__(self) -> str:
        return f"{self.state:<5}{self.check:<10}{self.place:<28}{self.found}"


@dataclass(frozen=True)
class NodeFacts:
    """What a node says of itself.

    Args:
        place: Host and the end of the node's id, or `driver`.
        python: Version, without the patch level.
        libraries: Versions by package; absent ones are left out.
        clock_s: Seconds since 1970 by the node's clock.
        asked_s: When it was asked and when it answered, by the clock of the driver.
        token_mode: `RAY_AUTH_MODE`.
        token_for_all: Its token file, where others may read it.
        declared_gpus: GPUs that Ray counts.
        visible_gpus: GPUs that torch sees.
        store_failure: Why the store cannot be used from there.
    """

    place: str
    python: str
    libraries: dict[str, str]
    clock_s: float
    asked_s: tuple[float, float] = (0.0, 0.0)
    token_mode: str | None = None
    token_for_all: str | None = None
    declared_gpus: int = 0
    visible_gpus: int = 0
    store_failure: str | None = None


def examine(config: DoctorConfig) -> list[Finding]:
    """Check the head, the tracking server, and every node; where jobs ask for GPUs, a node with one is called for first.

    Raises:
        RetryLater: No cluster answers.
    """
    connect(config.cluster)
    findings = [ask_head(config.dashboard), ask_tracking(config.tracking)]
    findings += _call_for_nodes(config)
    marker = join(config.store, f".doctor-{secrets.token_hex(8)}")
    driver = node_facts("driver", marker, write=True)
    nodes, silent = _ask_nodes(marker, config.timeout_s)
    with suppress(XMAdapterError):  # a store that cannot be written is among the findings
        for place in (marker, *(f"{marker}-{facts.place}" for facts in (driver, *nodes))):
            remove(place)
    return [*findings, *silent, *judge(driver, nodes)]


def ask_head(dashboard: str) -> Finding:
    """Ask the head for its version without a token: it must refuse."""
    try:
        with urllib.request.urlopen(f"{dashboard}/api/version", timeout=10) as reply:  # noqa: S310  the address is the user's own
            status = reply.status
    except urllib.error.HTTPError as error:
        status = error.code
    except (OSError, ValueError) as error:
        return Finding("warn", "token", "head", f"{dashboard} does not answer ({error}); set `dashboard`")
    if status in (401, 403):
        return Finding("ok", "token", "head", "asks for a token")
    advice = "whoever reaches it runs code as you: end it, export RAY_AUTH_MODE=token on every node, and start it again"
    return Finding("fail", "token", "head", f"{dashboard} answers {status} without a token; {advice}")


def ask_tracking(config: TrackingConfig) -> Finding:
    """Ask MLflow for its experiments, from the driver: no other process writes to it."""
    uri = tracking_uri(config)
    try:
        make_client(uri).search_experiments(max_results=1)
    except Exception as error:  # whatever a client, a server or a database raises
        told = reason(error).replace(uri, masked(uri))
        return Finding("fail", "tracking", "driver", f"{masked(uri)}: {told}; start it, or set MLFLOW_TRACKING_URI")
    if uri.startswith("sqlite:"):
        return Finding(
            "warn", "tracking", "driver", f"{uri} ends with the head's disk; for more, see cluster/README.md"
        )
    return Finding("ok", "tracking", "driver", f"{masked(uri)} answers")


def judge(driver: NodeFacts, nodes: Sequence[NodeFacts]) -> list[Finding]:
    """Compare the facts of every node with those of the driver."""
    return [finding for facts in (driver, *nodes) for finding in _judged(driver, facts)]


def _judged(driver: NodeFacts, facts: NodeFacts) -> Iterator[Finding]:
    def finding(check: str, fault: str | None, fine: str) -> Finding:
        return Finding("fail" if fault else "ok", check, facts.place, fault or fine)

    yield finding("versions", _other_versions(driver, facts), f"Python {facts.python}, {len(facts.libraries)} packages")
    yield finding("token", _open_token(facts), "mode is token")
    yield finding("clock", _wrong_clock(facts), f"within {MAX_DRIFT_S:.0f} s")
    if facts.declared_gpus or facts.visible_gpus:
        yield finding("gpu", _hidden_gpu(facts), f"{facts.visible_gpus} visible")
    yield finding("store", facts.store_failure, "read what the driver wrote, and wrote")


def _other_versions(driver: NodeFacts, facts: NodeFacts) -> str | None:
    mine, theirs = ({"python": each.python, **each.libraries} for each in (driver, facts))
    differ = [
        f"{name} {theirs.get(name, 'absent')} instead of {mine.get(name, 'absent')}"
        for name in sorted(mine.keys() | theirs.keys())
        if mine.get(name) != theirs.get(name)
    ]
    return f"{', '.join(differ)}; install with constraints.txt on every node, or use one image" if differ else None


def _open_token(facts: NodeFacts) -> str | None:
    if facts.token_mode != "token":  # noqa: S105  a mode, not a secret
        return f"RAY_AUTH_MODE is {facts.token_mode or 'not set'}; export RAY_AUTH_MODE=token before `ray start`"
    return f"{facts.token_for_all} can be read by others; chmod 600 it" if facts.token_for_all else None


def _wrong_clock(facts: NodeFacts) -> str | None:
    asked, answered = facts.asked_s
    off = max(asked - facts.clock_s, facts.clock_s - answered)
    return f"{off:.0f} s off the driver's; start an NTP client there" if off > MAX_DRIFT_S else None


def _hidden_gpu(facts: NodeFacts) -> str | None:
    if facts.visible_gpus:
        return None
    return f"Ray counts {facts.declared_gpus}, torch sees none; install the driver, or use the image that ends in -gpu"


def _call_for_nodes(config: DoctorConfig) -> list[Finding]:
    """Demand a core, and a GPU where there may be one, so that an autoscaling cluster shows its nodes."""
    called = {ray.remote(num_cpus=1)(platform.node).remote(): "cpu"}
    if config.cluster.encoder_gpus or config.cluster.trial_gpus:
        called[ray.remote(num_gpus=1)(platform.node).remote()] = "gpu"
    came, missing = ray.wait(list(called), num_returns=len(called), timeout=config.timeout_s)
    for task in missing:
        ray.cancel(task)
    advice = f"none came in {config.timeout_s:.0f} s; `ray status` on the head says why"
    return [
        *(Finding("ok", "nodes", called[task], "a node is there") for task in came),
        *(Finding("fail", "nodes", called[task], advice) for task in missing),
    ]


def _ask_nodes(marker: str, timeout_s: float) -> tuple[list[NodeFacts], list[Finding]]:
    """Facts of every node that lives, and a finding for each that does not answer."""
    began = time.time()
    asked: dict[ray.ObjectRef[NodeFacts], tuple[str, int]] = {}
    for node in ray.nodes():
        if node["Alive"]:
            place, gpus = f"{node['NodeManagerHostname']}-{node['NodeID'][-6:]}", int(node["Resources"].get("GPU", 0))
            strategy = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            # A task sees a GPU only when it takes one.
            options = {"num_cpus": 0, "num_gpus": min(gpus, 1), "scheduling_strategy": strategy}
            asked[ray.remote(**options)(node_facts).remote(place, marker)] = place, gpus
    facts, silent = [], []
    for task, (place, gpus) in asked.items():
        try:
            answer = ray.get(task, timeout=max(1.0, began + timeout_s - time.time()))
            facts.append(replace(answer, declared_gpus=gpus, asked_s=(began, time.time())))
        except ray.exceptions.RayError as error:
            ray.cancel(task)
            silent.append(Finding("fail", "nodes", place, f"{reason(error)}; see the logs of that node, or end it"))
    return facts, silent


def node_facts(place: str, marker: str, *, write: bool = False) -> NodeFacts:
    """Look at this process, its machine, and the store.

    Args:
        place: Name of the node.
        marker: File in the store that holds `driver`.
        write: This is the driver, which writes that file.
    """
    before = time.time()
    failure = _store_failure(place, marker, write)
    token = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")
    others = token.exists() and token.stat().st_mode & 0o077
    return NodeFacts(
        place=place,
        python=platform.python_version().rpartition(".")[0],
        libraries={name: found for name in _PACKAGES if (found := _version(name))},
        clock_s=before,
        asked_s=(before, time.time()),
        token_mode=os.environ.get("RAY_AUTH_MODE"),
        token_for_all=str(token) if others else None,
        visible_gpus=torch.cuda.device_count(),
        store_failure=failure,
    )


def _store_failure(place: str, marker: str, write: bool) -> str | None:
    """Read what the driver wrote, and write beside it: a folder of the same name on another disk is no shared store."""
    try:
        if write:
            put_if_absent(marker, b"driver")
        if read_bytes(marker) != b"driver":
            return f"{marker} holds something else; is this the same disk?"
        put_if_absent(f"{marker}-{place}", place.encode())
    except FileNotFoundError:
        folder = marker.rpartition("/")[0]
        return f"{folder} is not the driver's; mount one file system on every node, or use a bucket"
    except XMAdapterError as error:
        return str(error)
    return None


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
