"""TrialActors with faults; a module of its own, since workers import it by name.

What a trial has been through is remembered by files beside `FAULTY_MARKER`, as its process is gone.
"""

import os
import random
import signal
import time
from pathlib import Path
from typing import Any

from xmadapter.distributed import trial_actor
from xmadapter.distributed.trial_actor import TrialActor
from xmadapter.features import TuningData
from xmadapter.trial import TrialConfig, TrialResult, run_trial


class FaultyActor(TrialActor):
    """Its trials fail as the name of their method says."""

    def setup(self, *arguments: Any, **features: Any) -> None:
        super().setup(*arguments, **features)
        trial_actor.run_any = _run_or_fail


class MortalActor(TrialActor):
    """Every other trial, by chance from `CHAOS_SEED`, loses its process once, some time after it began."""

    def setup(self, *arguments: Any, **features: Any) -> None:
        super().setup(*arguments, **features)
        trial_actor.run_any = _run_or_die


class HandoverActor(TrialActor):
    """One of its processes is lost while it takes over its next trial, and is not missed at once."""

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        _die_once("handover", after_s=0.3)
        return super().reset_config(new_config)


def deaths() -> int:
    """How many processes have died."""
    marker = Path(os.environ["FAULTY_MARKER"])
    return len(list(marker.parent.glob(f"{marker.name}.*")))


def _run_or_fail(data: TuningData, config: TrialConfig, **where: Any) -> TrialResult:
    match config.method:
        case "raises":
            raise ValueError("made up")
        case "hungry":
            raise MemoryError
        case "dies":
            os.kill(os.getpid(), signal.SIGKILL)
        case "dies once":
            _die_once(str(config.shots))
    return run_trial(data, config, **where)


def _run_or_die(data: TuningData, config: TrialConfig, **where: Any) -> TrialResult:
    chance = random.Random(f"{os.environ['CHAOS_SEED']} {config.fingerprint}")
    if chance.random() < 0.5:
        _die_once(config.fingerprint, after_s=chance.uniform(0, 0.5))
    return run_trial(data, config, **where)


def _die_once(name: str, *, after_s: float = 0) -> None:
    once = Path(f"{os.environ['FAULTY_MARKER']}.{name}")
    if not once.exists():
        once.touch()
        time.sleep(after_s)
        os.kill(os.getpid(), signal.SIGKILL)
