"""A TrialActor with faults; a module of its own, since workers import it by name."""

import os
import signal
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
        trial_actor.run_trial = _run_or_fail


def _run_or_fail(data: TuningData, config: TrialConfig) -> TrialResult:
    match config.method:
        case "raises":
            raise ValueError("made up")
        case "hungry":
            raise MemoryError
        case "dies":
            os.kill(os.getpid(), signal.SIGKILL)
        case "dies once" if not (once := Path(f"{os.environ['FAULTY_MARKER']}.{config.shots}")).exists():
            once.touch()
            os.kill(os.getpid(), signal.SIGKILL)
    return run_trial(data, config)
