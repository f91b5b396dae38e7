"""SweepFolder: what a sweep left on disk, read back as values.

::

    OUTPUT/sweep.json          the sweep's uid; made once
    OUTPUT/config.yaml         the resolved config of the latest run
    OUTPUT/ledger.jsonl        finished trials, final tests, and what MLflow has acknowledged
    OUTPUT/predictions.parquet every prediction of the latest final test
    OUTPUT/predictions/        the same choice by choice, so that an interrupted final test goes on
"""

import math
import secrets
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import yaml
from pydantic import JsonValue, ValidationError

from xmadapter.config import (
    FinetuneConfig,
    Frozen,
    SweepConfig,
    load,
)
from xmadapter.errors import ConfigError, UnknownVersion
from xmadapter.final import FinalResult
from xmadapter.fingerprint import fingerprint
from xmadapter.ledger import Entry, Ledger
from xmadapter.retrieval import FinetuneResult, RetrievalFinal
from xmadapter.sealed import seal, unseal
from xmadapter.storage import is_remote, local_path, make_folder, put_if_absent, write_durably
from xmadapter.study import FinishedTrial, Study, Task
from xmadapter.trial import TrialResult

__all__ = ["Result", "SweepFolder", "create_sweep_folder", "open_sweep_folder", "peek_sweep_folder"]


Result = TypeVar("Result", TrialResult, FinetuneResult)
Final = TypeVar("Final", FinalResult, RetrievalFinal)
Read = TypeVar("Read", bound=Frozen)


class _Identity(Frozen):
    """Which sweep a folder holds."""

    uid: str
    task: Task = "classification"


class SweepFolder:
    """The folder of one sweep.

    Args:
        path: Output folder.
        config: Resolved config of the latest run; its type tells what kind of sweep this is.
        uid: Of the sweep; no two folders share one.
    """

    def __init__(self, path: Path, config: SweepConfig | FinetuneConfig, uid: str) -> None:
        self.path = path
        self.config = config
        self.uid = uid
        self.ledger = Ledger(path / "ledger.jsonl")

    def studies(self, plan_fingerprint: str) -> list[Study]:
        """List the studies of the config on the features with this fingerprint, shots varying fastest."""
        config, warm = self.config, self._warm()
        studies = []
        for method in config.methods:
            content: list[JsonValue] = [
                plan_fingerprint,
                *_conditions(config),
                method.model_dump(mode="json", exclude={"trials"}),
            ]
            parent = f"{self.uid}-{fingerprint(content)[:12]}"
            studies += [
                Study(
                    uid=f"{parent}-{shots}",
                    parent=parent,
                    method=method,
                    shots=shots,
                    seeds=config.seeds,
                    search=config.search,
                    take_all=isinstance(config, SweepConfig) and config.short_classes == "take-all",
                    warm=tuple(_nearest(warm.get(method.title, {}), shots)),
                    task=_task(config),
                    states=self._states,
                )
                for shots in config.shots
            ]
        return studies

    @property
    def _states(self) -> str | None:
        if not isinstance(self.config, FinetuneConfig):
            return None
        states = self.config.states or str(self.path / "states")
        return states if is_remote(states) else str(local_path(states).absolute())  # trials run in folders of their own

    def _warm(self) -> dict[str, dict[str, list[dict[str, JsonValue]]]]:
        """Read what the warm start brought: draws by method, then by shot count."""
        warm = self.config.search.warm_start
        if warm is None:
            return {}
        return next((entry.body["draws"] for entry in self.ledger.entries("warm") if entry.uid == warm.sweep), {})

    def trials(self) -> dict[str, dict[int, FinishedTrial]]:
        """Read all finished trials: by uid of the study, then by number.

        Raises:
            UnknownVersion: Another version of the program wrote one.
        """
        found: dict[str, dict[int, FinishedTrial]] = defaultdict(dict)
        for entry in self.ledger.entries("trial"):
            body = entry.body
            result = self._parsed(self._result, body["result"]) if body.get("result") else None
            rungs = {int(epoch): value for epoch, value in body.get("rungs", {}).items()}
            found[body["study"]][body["number"]] = FinishedTrial(
                body["drawn"], result, result.rungs if result else rungs
            )
        return found

    @property
    def _result(self) -> type[TrialResult] | type[FinetuneResult]:
        return FinetuneResult if isinstance(self.config, FinetuneConfig) else TrialResult

    def results(self, plan_fingerprint: str, kind: type[Result]) -> list[Result]:
        """Read all successful trials of the config's studies, in order of studies, then of their numbers.

        Args:
            plan_fingerprint: Of the features.
            kind: What this sweep's trials find.
        """
        trials = self.trials()
        return [
            trial.result
            for study in self.studies(plan_fingerprint)
            for _, trial in sorted(trials.get(study.uid, {}).items())
            if isinstance(trial.result, kind)
        ]

    def finals(self, kind: type[Final]) -> list[Final]:
        """Read the latest final test; `kind` is what it finds.

        Raises:
            UnknownVersion: Another version of the program wrote it.
        """
        looks = list(self.ledger.entries("final"))
        if not looks:
            return []
        return [self._parsed(kind, result) for result in looks[-1].body["results"]]

    def begin_look(self, choices: Sequence[TrialResult] | Sequence[FinetuneResult]) -> None:
        """Count a look at the test split before it happens; one that was interrupted goes on if the choices are the same."""
        content = fingerprint([choice.model_dump(mode="json") for choice in choices])
        looks, ended = list(self.ledger.entries("look")), sum(1 for _ in self.ledger.entries("final"))
        if len(looks) > ended and looks[-1].body.get("fingerprint") == content:
            return
        names: list[JsonValue] = [[choice.method, choice.shots] for choice in choices]
        self.append("look", str(len(looks) + 1), {"choices": names, "fingerprint": content})

    def scored(self, kind: type[Final]) -> dict[str, Final]:
        """Read every choice that was scored on the test split, by the fingerprint of what was scored; `kind` is what was found.

        Raises:
            UnknownVersion: Another version of the program wrote one.
        """
        return {entry.uid: self._parsed(kind, entry.body) for entry in self.ledger.entries("scored")}

    def _parsed(self, kind: type[Read], value: JsonValue) -> Read:
        try:
            return kind.model_validate(value)
        except ValidationError as error:  # its line has the right hash, so it is whole
            first = error.errors()[0]
            raise UnknownVersion(
                f"{self.ledger.path} was written by another version of xmadapter ({'.'.join(map(str, first['loc']))}: {first['msg']}); "
                "nothing was changed; go on with that version, or choose another output"
            ) from error

    @property
    def looks(self) -> int:
        """How often the test split was looked at."""
        return sum(1 for _ in self.ledger.entries("look"))

    def append(self, kind: str, uid: str, body: dict[str, JsonValue]) -> Entry:
        """Write an entry to the ledger and return it."""
        entry = Entry(kind, uid, body)
        self.ledger.append(entry)
        return entry


def _conditions(config: SweepConfig | FinetuneConfig) -> list[JsonValue]:
    """List what decides a trial's result beside features and method."""
    common: list[JsonValue] = [list(config.seeds), config.search.model_dump(mode="json")]
    if isinstance(config, FinetuneConfig):
        return ["retrieval", *common]
    return [config.protocol, *common, config.classes, config.short_classes]


def _task(config: SweepConfig | FinetuneConfig) -> Task:
    return "retrieval" if isinstance(config, FinetuneConfig) else "classification"


def _nearest(draws: Mapping[str, list[dict[str, JsonValue]]], shots: int) -> list[dict[str, JsonValue]]:
    nearest = min(draws, key=lambda other: (abs(math.log(int(other) / shots)), int(other)), default=None)
    return draws[nearest] if nearest else []


def create_sweep_folder(config: SweepConfig | FinetuneConfig) -> SweepFolder:
    """Make the folder of a sweep, or take up the one that is there.

    Raises:
        ResourceError: It cannot be written.
        ConfigError: There is no sweep to start from, or the folder holds a sweep of another kind.
    """
    path = make_folder(local_path(config.output))
    put_if_absent(path / "sweep.json", seal(_Identity(uid=secrets.token_hex(6), task=_task(config))))
    if (found := _identity(path).task) != _task(config):
        raise ConfigError(f"{config.output} holds a {found} sweep; it was left as it is; choose another output")
    text = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)
    write_durably(path / "config.yaml", lambda file: file.write(text.encode()))
    folder = _open(path)
    _warm_up(folder)
    return folder


def _warm_up(folder: SweepFolder) -> None:
    """Copy the best draws of an earlier sweep into the ledger, once: what is drawn must not change with that sweep."""
    warm = folder.config.search.warm_start
    if warm is None or any(entry.uid == warm.sweep for entry in folder.ledger.entries("warm")):
        return
    found: dict[tuple[str, int], list[tuple[float, dict[str, JsonValue]]]] = defaultdict(list)
    for trials in open_sweep_folder(warm.sweep).trials().values():
        for _, trial in sorted(trials.items()):
            if trial.result is not None and trial.drawn:
                found[trial.result.method, trial.result.shots].append((trial.result.score, trial.drawn))
    if not found:
        raise ConfigError(
            f"{warm.sweep} has no finished trial to start from; nothing was run; correct search.warm_start.sweep"
        )
    draws: dict[str, dict[str, JsonValue]] = defaultdict(dict)
    for (method, shots), trials in found.items():
        best = sorted(trials, key=lambda trial: -trial[0])
        draws[method][str(shots)] = [drawn for _, drawn in best[: warm.draws]]
    folder.append("warm", warm.sweep, {"draws": dict(draws)})


def peek_sweep_folder(config: SweepConfig | FinetuneConfig) -> SweepFolder:
    """Look at the folder that a config names, which need not be there; nothing is written."""
    path = local_path(config.output)
    uid = _identity(path).uid if (path / "sweep.json").is_file() else "none"
    return SweepFolder(path, config, uid)


def open_sweep_folder(path: str) -> SweepFolder:
    """Open the folder of a sweep.

    Raises:
        ConfigError: There is no sweep.
    """
    folder = local_path(path)
    if not (folder / "sweep.json").is_file():
        raise ConfigError(f"{path} holds no sweep; run pipelines.sweep with output={path} first")
    return _open(folder)


def _open(path: Path) -> SweepFolder:
    identity = _identity(path)
    kind = FinetuneConfig if identity.task == "retrieval" else SweepConfig
    return SweepFolder(path, load(kind, path / "config.yaml"), identity.uid)


def _identity(path: Path) -> _Identity:
    return unseal(_Identity, path / "sweep.json", advice="choose another output for a new sweep")
