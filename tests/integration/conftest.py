"""What tests share for a session: the straight line from images to a bundle, and a service with a bucket."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.integration.line import Desk, Done, draw_images, encode_config, run, sweep_config
from tests.integration.services import BUCKET, moto, use


@dataclass(frozen=True)
class Step:
    """A step of the line: how its command ended, and what it left."""

    done: Done
    path: Path


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("line")


@pytest.fixture(scope="session")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    desk = Desk(tmp_path_factory.mktemp("desk"))
    yield desk
    desk.close()


@pytest.fixture(scope="session")
def images(folder: Path) -> Path:
    return draw_images(folder / "images")


@pytest.fixture(scope="session")
def encoded(folder: Path, images: Path, desk: Desk) -> Step:
    config = encode_config(folder / "encode.yaml", images)
    return Step(run("pipelines.encode", "--config", str(config), folder=folder), folder / "features")


@pytest.fixture(scope="session")
def swept(folder: Path, encoded: Step, desk: Desk) -> Step:
    config = sweep_config(folder / "sweep.yaml", encoded.path)
    return Step(desk("pipelines.sweep", "--config", config), folder / "sweep")


@pytest.fixture(scope="session")
def evaluated(swept: Step, desk: Desk) -> Step:
    return Step(desk("pipelines.evaluate", f"sweep={swept.path}"), swept.path / "predictions.parquet")


@pytest.fixture(scope="session")
def reported(folder: Path, swept: Step, evaluated: Step, desk: Desk) -> Step:
    done = desk("pipelines.report", f"sweep={swept.path}", f"output={folder / 'report'}")
    return Step(done, folder / "report")


@pytest.fixture(scope="session")
def exported(folder: Path, swept: Step, evaluated: Step, desk: Desk) -> Step:
    done = desk("pipelines.export", f"sweep={swept.path}", f"output={folder / 'bundle'}")
    return Step(done, folder / "bundle")


@pytest.fixture(scope="session")
def evaluated_again(swept: Step, reported: Step, exported: Step, desk: Desk) -> Step:
    """A second look, after everything that follows from the first."""
    return Step(desk("pipelines.evaluate", f"sweep={swept.path}"), swept.path / "predictions.parquet")


@pytest.fixture(scope="session")
def endpoint() -> Iterator[str]:
    with moto() as address:
        yield address


@pytest.fixture
def s3(endpoint: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """An empty folder in a bucket, with credentials and endpoint in the environment, and nothing fetched yet."""
    use(monkeypatch, endpoint)
    monkeypatch.setenv("XMADAPTER_CACHE", str(tmp_path / "cache"))
    return f"s3://{BUCKET}/{tmp_path.name}"
