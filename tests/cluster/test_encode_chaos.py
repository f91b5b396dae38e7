"""Encode jobs whose processes die: workers, drivers, nodes, decoders; the store ends as a quiet run leaves it, to the byte.

Only processes that the tests began are ended: drivers, and children of the raylet that is a child of this process.
"""

import io
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
import ray
from PIL import Image

from tests.cluster.victims import kill, running
from tests.factories import tree
from tests.integration.line import CLASSES, Done, Started, draw_images, encode_config, records
from xmadapter.config import EncodeConfig, load
from xmadapter.distributed.encode import EncodeSummary, run_encode
from xmadapter.features import open_features

pytestmark = [
    pytest.mark.timeout(600),  # processes that start anew import torch, on a machine that may be busy
    # Ray 2.60 warns itself of its own settings, and leaves sockets to the collector.
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning"),
]

SEED = int(os.environ.get("CHAOS_SEED", "1"))
IMAGES = {"train": 12, "val": 4, "test": 4}
SHARDS = 3 * (12 + 4 + 4) + 3
"""A shard for each image, with its views, and for each prompt."""

INTERRUPTED = "interrupted: what was finished is kept; the same command resumes"
POISON = b"kills its decoder"
SITE = f"""
import io, os, signal
import PIL.Image

plain = PIL.Image.open

def open_or_die(file, *arguments, **options):
    if isinstance(file, io.BytesIO) and {POISON!r} in file.getvalue():
        os.kill(os.getpid(), signal.SIGKILL)
    return plain(file, *arguments, **options)

PIL.Image.open = open_or_die
"""
"""A decoder with a fault, in every process of the cluster: bytes that end in the poison kill whoever decodes them."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("chaos")


@pytest.fixture(scope="module")
def images(folder: Path) -> Path:
    return draw_images(folder / "images", counts=IMAGES)


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    """The one Ray that most tests share; its processes carry the faulty decoder."""
    (folder / "site").mkdir()
    (folder / "site" / "sitecustomize.py").write_text(SITE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", f"{folder / 'site'}:{Path(__file__).parents[2]}")
        ray.init(address="local", num_cpus=3, include_dashboard=False, log_to_driver=False)
        yield ray.get_runtime_context().gcs_address
        ray.shutdown()


def job(folder: Path, images: Path, address: str, **changes: object) -> Path:
    """Configuration of a job whose every shard is one image, or twelve rows."""
    folder.mkdir(exist_ok=True)
    settings = {"rows_per_shard": 1, "cluster": {"address": address}, "max_actors": 3}
    return encode_config(folder / "encode.yaml", images, **(settings | changes))


def encode(config: Path) -> EncodeSummary:
    return run_encode(load(EncodeConfig, config, ()))


@pytest.fixture(scope="module")
def quiet(folder: Path, images: Path, address: str) -> dict[str, bytes]:
    """Every file of the store that an undisturbed job leaves."""
    summary = encode(job(folder / "quiet", images, address))
    assert (len(summary.manifest.shards), summary.encoded_rows) == (SHARDS, 3 * (12 * 3 + 4 + 4) + 3)
    return tree(folder / "quiet" / "features")


def workers() -> list[psutil.Process]:
    """Processes of the shared cluster that run a step of a job now."""
    (raylet,) = (child for child in psutil.Process().children() if child.name() == "raylet")
    return running(raylet, "decode_shard", "EncodeShard", "MapWorker")


class Killer(threading.Thread):
    """Kill a worker of the shared cluster at random, again and again, until told to stop or `most` are dead."""

    def __init__(self, most: int, seed: int) -> None:
        super().__init__(daemon=True)
        self.killed: list[str] = []
        self._most, self._random, self._over = most, random.Random(seed), threading.Event()

    def run(self) -> None:
        while len(self.killed) < self._most and not self._over.wait(self._random.uniform(0.2, 0.6)):
            for process in self._random.sample(found := workers(), k=min(1, len(found))):
                if kill(process):
                    self.killed.append(str(process.pid))

    def stop(self) -> None:
        self._over.set()
        self.join()


def ids(root: Path) -> list[str]:
    """Sample ids of all images of a store, with repetitions."""
    store = open_features(str(root))
    tables = [store.read(info) for info in store.manifest.shards if info.modality == "image"]
    return [f"{row['sample_id']} {row['view']}" for table in tables for row in table.to_pylist()]


def test_ten_killed_workers_change_no_byte_and_lose_or_double_no_row(folder, images, address, quiet):
    print(f"seed {SEED}")
    killer = Killer(10, SEED)
    config = job(folder / "killed", images, address)
    killer.start()
    started = time.monotonic()
    encode(config)
    killer.stop()
    print(f"{len(killer.killed)} kills in {time.monotonic() - started:.1f} s")
    assert len(killer.killed) == 10
    assert tree(folder / "killed" / "features") == quiet
    found = ids(folder / "killed" / "features")
    assert len(found) == len(set(found)) == 3 * (12 * 3 + 4 + 4)


def test_one_actor_and_three_write_the_same_bytes(folder, images, address, quiet):
    encode(job(folder / "alone", images, address, max_actors=1))
    assert tree(folder / "alone" / "features") == quiet


def drive(config: Path) -> Started:
    return Started(("pipelines.encode", "--config", str(config)), config.parent)


def ended_at(config: Path, shards: int, end: Callable[[Started], Done]) -> Done:
    """Start a job in a process of its own, and end it when so many shards are finished."""
    started = drive(config)
    started.wait_until(lambda: len(records(config.parent / "features")) >= shards)
    return end(started)


def test_after_three_killed_drivers_the_same_command_encodes_what_is_missing(folder, images, address, quiet):
    config = job(folder / "drivers", images, address)
    features = folder / "drivers" / "features"
    print(f"seed {SEED}")
    chance, before = random.Random(SEED), 0
    for share in (0.3, 0.5, 0.8):
        at = round(SHARDS * share) + chance.randint(-2, 2)
        done = ended_at(config, at, kill_all)
        assert done.status == -signal.SIGKILL
        assert not list(features.glob("manifest-*"))
        assert before < len(records(features)) < SHARDS
        before = len(records(features))
    kept = {path.stem for path in records(features)}
    summary = encode(config)
    missing = [info for info in summary.manifest.shards if info.uid not in kept]
    assert summary.encoded_rows == sum(info.rows for info in missing)
    assert len(missing) == SHARDS - len(kept) > 0
    assert tree(features) == quiet


def kill_all(started: Started) -> Done:
    """Kill a driver, and its workers as the end of its machine would: Ray lets them work on until it misses the driver."""
    done = started.kill()
    for process in workers():
        kill(process)
    settle()
    return done


def settle() -> None:
    """Wait until the workers of an ended driver write no more."""
    deadline = time.monotonic() + 60
    while workers():
        assert time.monotonic() < deadline, "workers of a dead driver live on"
        time.sleep(0.1)


def test_an_image_that_kills_its_decoder_is_named_and_skipped_and_the_rest_is_kept(folder, images, address, quiet):
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "PNG")
    root = folder / "poisoned"
    for name, data in tree(images).items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    (root / "train" / CLASSES[0] / "poison.png").write_bytes(file.getvalue() + POISON)
    started = time.monotonic()
    manifest = encode(job(folder / "poison", root, address, rows_per_shard=12, max_skip_fraction=0.02)).manifest
    print(f"skipped after {time.monotonic() - started:.1f} s")
    assert [(skip.sample_id, skip.reason) for skip in manifest.skipped] == [
        (f"train/{CLASSES[0]}/poison.png", "crashed_decoder")
    ]
    assert len(set(ids(folder / "poison" / "features"))) == 3 * (12 * 3 + 4 + 4)


def test_a_signal_lets_shards_in_hand_finish_and_the_same_command_resumes(folder, images, address, quiet):
    config = job(folder / "interrupted", images, address)
    features = config.parent / "features"
    moments: list[float] = []

    def interrupt(started: Started) -> Done:
        moments.append(time.monotonic())
        os.kill(started.pid, signal.SIGINT)
        return started.finish()

    done = ended_at(config, 5, interrupt)
    print(f"ended {time.monotonic() - moments[0]:.1f} s after the signal")
    assert done.status == 130, done.err
    assert done.err.splitlines()[-1] == INTERRUPTED
    assert "Traceback" not in done.err
    settle()
    assert 5 < len(records(features)) < SHARDS
    assert encode(config).kept_rows > 0
    assert tree(features) == quiet


def test_a_second_signal_ends_at_once(folder, images, address):
    config = job(folder / "twice", images, address)

    def interrupt(started: Started) -> Done:
        for _ in range(2):
            os.kill(started.pid, signal.SIGTERM)
            time.sleep(0.05)
        return started.finish()

    done = ended_at(config, 5, interrupt)
    assert done.status == 130, done.err
    assert done.err.splitlines()[-1] == INTERRUPTED
    assert "Traceback" not in done.err
