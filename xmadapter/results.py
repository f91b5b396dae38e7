"""SweepFolder: what a sweep left on disk, read back as values.

::

    OUTPUT/sweep.json          the sweep's uid; made once
    OUTPUT/config.yaml         the resolved config of the latest run
    OUTPUT/ledger.jsonl        finished trials, final tests, and what MLflow has acknowledged
    OUTPUT/predictions.parquet every prediction of the latest final test
"""

import math
import secrets
from collections import defaultdict
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeVar, cast

import yaml
from pydantic import Field, JsonValue

from xmadapter.config import (
    AdapterConfig,
    FinetuneConfig,
    Frozen,
    GridConfig,
    MethodConfig,
    RetrievalConfig,
    SearchConfig,
    SweepConfig,
    grid_points,
    load,
    with_parameters,
)
from xmadapter.errors import ConfigError
from xmadapter.final import FinalResult
from xmadapter.fingerprint import fingerprint
from xmadapter.ledger import Entry, Ledger
from xmadapter.retrieval import FinetuneResult, FinetuneTrial, RetrievalFinal
from xmadapter.sealed import seal, unseal
from xmadapter.storage import local_path, make_folder, put_if_absent, write_durably
from xmadapter.trial import TrialConfig, TrialResult

__all__ = ["FinishedTrial", "Study", "SweepFolder", "create_sweep_folder", "open_sweep_folder", "peek_sweep_folder"]


Result = TypeVar("Result", TrialResult, FinetuneResult)
Final = TypeVar("Final", FinalResult, RetrievalFinal)
Task = Literal["classification", "retrieval"]


class Study(Frozen):
    """One search: a method at one shot count, on one set of features.

    Everything that changes what a trial finds is part of its uid, except the number of trials: a longer sweep goes on.
    """

    uid: str
    parent: str
    method: MethodConfig | MethodConfig[RetrievalConfig]
    shots: int = Field(description="Images a class; of captioned images, how many are trained on.")
    seeds: tuple[int, ...]
    search: SearchConfig
    take_all: bool = False
    warm: tuple[dict[str, JsonValue], ...] = ()
    task: Task = "classification"
    states: str | None = Field(default=None, description="Where states of encoder-level trials are kept.")

    @property
    def first_draws(self) -> list[dict[str, JsonValue]]:
        """What is tried before any sampler is asked: the method as configured, what a warm start brings, a grid.

        Whoever searches should not end below where they started.
        """
        space, sampler = self.method.search_space, self.search.sampler
        configured = self.method.as_configured
        draws = [*([configured] if configured else []), *filter(self.method.inside, self.warm)]
        if space and isinstance(sampler, GridConfig):
            draws += grid_points(space, sampler.points)
        return [draw for place, draw in enumerate(draws) if draw not in draws[:place]]

    @property
    def draws(self) -> int:
        """Number of trials."""
        if self.method.search_space and isinstance(self.search.sampler, GridConfig):
            combinations = len(self.first_draws)
            return min(combinations, self.method.trials or combinations)
        return self.method.draws

    def left(self, finished: Container[int]) -> int:
        """Number of trials that are not among the finished ones."""
        return sum(number not in finished for number in range(self.draws))

    def trial(
        self, drawn: Mapping[str, JsonValue], rungs: Sequence[tuple[int, float | None]] = ()
    ) -> TrialConfig | FinetuneTrial:
        """Configure the trial of a draw; `rungs` as in `TrialConfig`."""
        adapter = with_parameters(self.method.adapter, drawn)
        if self.task == "retrieval":
            return FinetuneTrial(
                method=self.method.title,
                adapter=cast("RetrievalConfig", adapter),
                images=self.shots,
                seeds=self.seeds,
                state=f"{self.uid}-{fingerprint(dict(drawn))[:12]}",
                states=self.states,
                rungs=tuple(rungs),
            )
        return TrialConfig(
            method=self.method.title,
            adapter=cast("AdapterConfig", adapter),
            solve=self.method.solve_grid,
            shots=self.shots,
            seeds=self.seeds,
            take_all=self.take_all,
            rungs=tuple(rungs),
        )


@dataclass(frozen=True)
class FinishedTrial:
    """How a trial of a study ended.

    Args:
        drawn: Its hyperparameters.
        result: What it found; None where it failed or was stopped early.
        rungs: Validation accuracy by epoch, where it was compared; with no result, the last of them stopped it.
    """

    drawn: dict[str, JsonValue]
    result: TrialResult | FinetuneResult | None = None
    rungs: Mapping[int, float] = field(default_factory=dict)


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
        return (self.config.states or str(self.path / "states")) if isinstance(self.config, FinetuneConfig) else None

    def _warm(self) -> dict[str, dict[str, list[dict[str, JsonValue]]]]:
        """Read what the warm start brought: draws by method, then by shot count."""
        warm = self.config.search.warm_start
        if warm is None:
            return {}
        return next((entry.body["draws"] for entry in self.ledger.entries("warm") if entry.uid == warm.sweep), {})

    def trials(self) -> dict[str, dict[int, FinishedTrial]]:
        """Read all finished trials: by uid of the study, then by number."""
        found: dict[str, dict[int, FinishedTrial]] = defaultdict(dict)
        for entry in self.ledger.entries("trial"):
            body = entry.body
            result = self._result.model_validate(body["result"]) if body.get("result") else None
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
        """Read the latest final test; `kind` is what it finds."""
        looks = list(self.ledger.entries("final"))
        if not looks:
            return []
        return [kind.model_validate(result) for result in looks[-1].body["results"]]

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
