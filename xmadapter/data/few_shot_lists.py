"""Read published few-shot index lists: which images form the support and the validation of a shot count and a seed."""

import re
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from xmadapter.data.names import printable
from xmadapter.data.objects import AnyPath, any_path
from xmadapter.data.paths import entries, read_list, require_folder
from xmadapter.data.samples import SampleIndex
from xmadapter.errors import ConfigError, DataError, IntegrityError, some
from xmadapter.strict import parse_json

__all__ = ["FewShotList", "read_few_shot_lists"]

_NAME = re.compile(r"shot_([1-9]\d{0,3})-seed_(\d{1,9})\.json")


class FewShotList(NamedTuple):
    """Sample ids of one shot count and seed, in the order of the list."""

    train: tuple[str, ...]
    validation: tuple[str, ...]


class _Image(BaseModel):
    model_config = ConfigDict(strict=True)

    impath: str
    label: int = Field(ge=0)


class _Images(BaseModel):
    model_config = ConfigDict(strict=True)

    data: list[_Image]


class _File(BaseModel):
    model_config = ConfigDict(strict=True)

    train: _Images
    val: _Images


def read_few_shot_lists(folder: str, index: SampleIndex) -> dict[tuple[int, int], FewShotList]:
    """Read every `shot_K-seed_S.json` of a folder, in the format of the cross-modal adaptation lists.

    A listed path such as `./data/dtd/images/banded/banded_0117.jpg` means the sample whose id is its longest possible end
    (`banded/banded_0117.jpg`), so the lists fit wherever the data set lies.

    Args:
        folder: Folder of one data set's lists.
        index: The same data set as `read_coop` gives it, whose labels are the published ones.

    Returns:
        A map from (shots, seed) to the ids of support and validation.

    Raises:
        ConfigError: The folder does not exist or holds no list.
        DataError: A list is malformed; names an image that the index lacks, labels otherwise or holds in test; lists one image
            twice; or has more than K training images of a class.
    """
    root = require_folder(any_path(folder), setting="folder")
    paths = [(match, path) for path in entries(root) if (match := _NAME.fullmatch(path.name))]
    if not paths:
        raise ConfigError(f"{printable(root)}: holds no shot_K-seed_S.json; correct `folder`")
    rows = zip(*(index.table[name].to_pylist() for name in ("sample_id", "label", "split")), strict=True)
    known = {name: (label, split) for name, label, split in rows}
    return {(int(match[1]), int(match[2])): _read(path, known, shots=int(match[1])) for match, path in paths}


def _read(path: AnyPath, known: dict[str, tuple[int, str]], *, shots: int) -> FewShotList:
    source = printable(path)
    try:
        lists = _File.model_validate(parse_json(read_list(path, setting="folder")))
    except (ValidationError, IntegrityError) as error:
        reason = error.errors()[0] if isinstance(error, ValidationError) else {"loc": (), "msg": str(error)}
        where = ".".join(str(part) for part in reason["loc"]) or "the file"
        raise DataError(f"{source}: {where}: {reason['msg']}; copy the published list again") from error
    train = tuple(_ids(lists.train.data, known, source=source, key="train"))
    validation = tuple(_ids(lists.val.data, known, source=source, key="val"))
    _check(train, validation, known, source=source, shots=shots)
    return FewShotList(train, validation)


def _ids(images: list[_Image], known: dict[str, tuple[int, str]], *, source: str, key: str) -> Iterator[str]:
    for number, image in enumerate(images):
        where = f"{source}: {key}[{number}]"
        name = next((end for end in _ends(image.impath) if end in known), None)
        if name is None:
            raise DataError(
                f"{where}: no sample of this data set ends {printable(image.impath)!r}; read the lists that fit it"
            )
        label, split = known[name]
        if label != image.label:
            raise DataError(
                f"{where}: {name} has label {image.label} here and {label} in the data set; read lists that fit it"
            )
        if split == "test":
            raise DataError(f"{where}: {name} is a test image; read the lists of the same split")
        yield name


def _ends(path: str) -> Iterator[str]:
    """Give the ends of a path as sample ids, the longest first."""
    parts = PurePosixPath(path).parts
    return (printable("/".join(parts[start:])) for start in range(len(parts)))


def _check(
    train: tuple[str, ...], validation: tuple[str, ...], known: dict[str, tuple[int, str]], *, source: str, shots: int
) -> None:
    every = (*train, *validation)
    twice = {name for name in every if every.count(name) > 1} if len(set(every)) < len(every) else set()
    if twice:
        raise DataError(f"{source}: lists images twice: {some(sorted(twice))}; copy the published list again")
    counts: dict[int, int] = {}
    for name in train:
        counts[known[name][0]] = counts.get(known[name][0], 0) + 1
    most = max(counts.values(), default=0)
    if most > shots or not train:
        raise DataError(
            f"{source}: has {most} training images of a class under the name of {shots} shots; copy it again"
        )
