"""Registry: models by data set and backbone, and the one of them that is the champion."""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from xmadapter.config import TrackingConfig
from xmadapter.errors import TrackingError
from xmadapter.tracking.client import find_experiment, make_client, masked, reason, tracking_uri

if TYPE_CHECKING:
    from mlflow import MlflowClient

__all__ = ["Champion", "Registry"]

_ALIAS = "champion"
_FOLDER = "model"


@dataclass(frozen=True)
class Champion:
    """The version that carries the alias.

    Args:
        version: Its number.
        tags: As registered.
        files: A folder with what was registered, for as long as the registry that gave it.
    """

    version: int
    tags: dict[str, str]
    files: Path


class Registry:
    """The versions of one registered model; a context, for as long as fetched files are needed.

    Args:
        config: Address of MLflow.
        name: Of the registered model.

    Raises:
        TrackingError: From every method, where MLflow does not answer.
    """

    def __init__(self, config: TrackingConfig, name: str) -> None:
        self._uri, self.name = tracking_uri(config), name
        self._scratch = tempfile.TemporaryDirectory(prefix="xmadapter-registry-")

    def __enter__(self) -> "Registry":
        return self

    def __exit__(self, *_: object) -> None:
        self._scratch.cleanup()

    def champion(self) -> Champion | None:
        """Fetch the version that carries the alias; None while there is none."""
        from mlflow.exceptions import MlflowException

        client = make_client(self._uri)
        try:
            found = client.search_registered_models(f"name = '{self.name}'")
            number = found[0].aliases.get(_ALIAS) if found else None
            if number is None:
                return None
            version = client.get_model_version(self.name, number)
            files = client.download_artifacts(str(version.run_id), version.tags["folder"], self._scratch.name)
        except (MlflowException, OSError) as error:  # no champion to compare with is no reason to take its place
            raise self._unreachable(error) from error
        return Champion(int(version.version), dict(version.tags), Path(files))

    def register_champion(self, experiment: str, trial_uid: str, folder: Path, tags: dict[str, str], note: str) -> int:
        """Register a folder of files as the next version and hand it the alias; returns its number.

        Args:
            experiment: Where the run is that it came from.
            trial_uid: Of that run; the files become its artefacts.
            folder: Files, without subfolders.
            tags: Of the version.
            note: What a person reads beside it.
        """
        from mlflow.exceptions import MlflowException

        client = make_client(self._uri)
        try:
            run = self._run(client, experiment, trial_uid)
            place = f"{_FOLDER}-{tags['bundle_sha256'][:12]}"
            client.log_artifacts(run, str(folder), place)
            self._make_model(client)
            source = f"{client.get_run(run).info.artifact_uri}/{place}"
            version = client.create_model_version(
                self.name, source, run, tags={**tags, "folder": place}, description=note
            )
            client.set_registered_model_alias(self.name, _ALIAS, version.version)
        except (MlflowException, OSError) as error:
            raise self._unreachable(error) from error
        return int(version.version)

    def _make_model(self, client: "MlflowClient") -> None:
        if not client.search_registered_models(f"name = '{self.name}'"):
            client.create_registered_model(self.name)

    def _run(self, client: "MlflowClient", experiment: str, trial_uid: str) -> str:
        found = find_experiment(client, experiment)
        runs = client.search_runs([found], f"tags.trial_uid = '{trial_uid}'", max_results=1) if found else []
        if not runs:
            raise TrackingError(
                f"MLflow at {masked(self._uri)} has no run of this sweep; nothing was promoted; deliver it first: xmadapter sync"
            )
        return runs[0].info.run_id

    def _unreachable(self, error: Exception) -> TrackingError:
        return TrackingError(
            f"MLflow at {masked(self._uri)} did not answer ({reason(error)}); the champion is as it was; try again when it is back"
        )
