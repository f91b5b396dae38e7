"""SweepFolder: what a sweep left on disk, read back as values.

::

    OUTPUT/sweep.json          the sweep's uid; made once
    OUTPUT/config.yaml         the resolved config of the latest run
    OUTPUT/ledger.jsonl        finished trials, final tests, and what MLflow has acknowledged
    OUTPUT/predictions.parquet every prediction of the latest final test
"""

import secrets
from pathlib import Path

import yaml
from pydantic import JsonValue

from xmadapter.config import Frozen, MethodConfig, SweepConfig, load
from xmadapter.errors import ConfigError
from xmadapter.final import FinalResult
from xmadapter.fingerprint import fingerprint
from xmadapter.ledger import Entry, Ledger
from xmadapter.sealed import seal, unseal
from xmadapter.storage import local_path, make_folder, put_if_absent, write_durably
from xmadapter.trial import TrialResult

__all__ = ["Study", "SweepFolder", "create_sweep_folder", "open_sweep_folder"]


class Study(Frozen):
    """One search: a method at one shot count, on one set of features.

    Everything that changes what a trial finds is part of its uid, except the number of trials: a longer sweep goes on.
    """

    uid: str
    parent: str
    method: MethodConfig
    shots: int
    seeds: tuple[int, ...]
    search_seed: int
    take_all: bool


class _Identity(Frozen):
    """Which sweep a folder holds."""

    uid: str


class SweepFolder:
    """The folder of one sweep.

    Args:
        path: Output folder.
        config: Resolved config of the latest run.
        uid: Of the sweep; no two folders share one.
    """

    def __init__(self, path: Path, config: SweepConfig, uid: str) -> None:
        self.path = path
        self.config = config
        self.uid = uid
        self.ledger = Ledger(path / "ledger.jsonl")

    def studies(self, plan_fingerprint: str) -> list[Study]:
        """List the studies of the config on the features with this fingerprint, shots varying fastest."""
        config = self.config
        studies = []
        for method in config.methods:
            content: list[JsonValue] = [
                plan_fingerprint,
                config.protocol,
                list(config.seeds),
                config.search_seed,
                config.classes,
                config.short_classes,
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
                    search_seed=config.search_seed,
                    take_all=config.short_classes == "take-all",
                )
                for shots in config.shots
            ]
        return studies

    def trials(self, study: Study) -> dict[int, tuple[dict[str, JsonValue], TrialResult | None]]:
        """Read the finished trials of a study by number: drawn parameters, and the result or None where it failed."""
        found = {}
        for entry in self.ledger.entries("trial"):
            if entry.body["study"] == study.uid:
                result = entry.body.get("result")
                found[entry.body["number"]] = (entry.body["drawn"], result and TrialResult.model_validate(result))
        return found

    def results(self, plan_fingerprint: str) -> list[TrialResult]:
        """Read all successful trials of the config's studies, in order of studies."""
        return [
            result
            for study in self.studies(plan_fingerprint)
            for _, result in self.trials(study).values()
            if result is not None
        ]

    def finals(self) -> list[FinalResult]:
        """Read the latest final test."""
        looks = list(self.ledger.entries("final"))
        if not looks:
            return []
        return [FinalResult.model_validate(result) for result in looks[-1].body["results"]]

    @property
    def looks(self) -> int:
        """How often the test split was looked at."""
        return sum(1 for _ in self.ledger.entries("look"))

    def append(self, kind: str, uid: str, body: dict[str, JsonValue]) -> Entry:
        """Write an entry to the ledger and return it."""
        entry = Entry(kind, uid, body)
        self.ledger.append(entry)
        return entry


def create_sweep_folder(config: SweepConfig) -> SweepFolder:
    """Make the folder of a sweep, or take up the one that is there.

    Raises:
        ResourceError: It cannot be written.
    """
    path = make_folder(local_path(config.output))
    put_if_absent(path / "sweep.json", seal(_Identity(uid=secrets.token_hex(6))))
    text = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)
    write_durably(path / "config.yaml", lambda file: file.write(text.encode()))
    return _open(path)


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
    identity = unseal(_Identity, path / "sweep.json", advice="choose another output for a new sweep")
    return SweepFolder(path, load(SweepConfig, path / "config.yaml"), identity.uid)
