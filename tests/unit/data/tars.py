"""WebDataset shards of small images, as tar archives."""

import io
import os
import tarfile
from pathlib import Path

from tests.unit.data.makers import encoded, picture
from xmadapter.config.data import WebDatasetData

Members = list[tuple[str, bytes]]


def write_tar(path: Path, members: Members, *, kind: int = tarfile.PAX_FORMAT) -> Path:
    with tarfile.open(path, "w", format=kind, encoding="utf-8", errors="surrogateescape") as archive:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def sample(key: str, label: str = "cat") -> Members:
    image = encoded(picture(os.fsencode(key).hex()))
    return [(f"{key}.png", image), (f"{key}.cls", label.encode()), (f"{key}.txt", f"photo {len(key)}\n".encode())]


def samples(*keys: str) -> Members:
    """Cats and dogs in turn."""
    return [member for number, key in enumerate(keys) for member in sample(key, ("cat", "dog")[number % 2])]


def write_pets(folder: Path, **shards: Members) -> WebDatasetData:
    """Write two training shards and one of each other split; a shard can be replaced."""
    made = {
        "train_0": samples("a0", "a1", "a2", "a3"),
        "train_1": samples("b0", "b1"),
        "val_0": samples("c0", "c1"),
        "test_0": samples("d0", "d1"),
    }
    folder.mkdir(exist_ok=True)
    for name, members in (made | shards).items():
        write_tar(folder / f"{name}.tar", members)
    return WebDatasetData(
        train=f"{folder}/train_{{0..1}}.tar", validation=f"{folder}/val_*.tar", test=f"{folder}/test_0.tar"
    )


def changed(config: WebDatasetData, **fields: object) -> WebDatasetData:
    return WebDatasetData.model_validate(config.model_dump() | fields)
