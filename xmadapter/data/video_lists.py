"""What the lists of a captioned video data set say: names, splits and captions, before any video is looked for."""

import csv
import io
from collections.abc import Iterable, Iterator
from typing import NamedTuple, TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError

from xmadapter.config.data import ActivityNetLists, DidemoLists, MsrVttLists, VideoTable
from xmadapter.data.captions import clean_captions
from xmadapter.data.names import printable
from xmadapter.data.objects import AnyPath, any_path
from xmadapter.data.paths import read_list
from xmadapter.data.samples import SPLIT_NAMES, Split
from xmadapter.errors import DataError, some

__all__ = ["Clip", "read_clips"]

_Parsed = TypeVar("_Parsed")

_DIDEMO: tuple[tuple[str, Split], ...] = (("train", "train"), ("val", "validation"), ("test", "test"))
_ACTIVITYNET: tuple[tuple[str, str, Split], ...] = (("train_ids", "train", "train"), ("val_ids", "val_1", "test"))


class Clip(NamedTuple):
    """A video as its list names it, and the file and record that did."""

    video: str
    split: Split
    captions: tuple[str, ...]
    source: str
    where: str


class _TableRow(BaseModel):
    video: str
    caption: str | list[str]
    split: str


class _MsrVttSentence(BaseModel):
    video_id: str
    caption: str


class _MsrVttFile(BaseModel):
    sentences: list[_MsrVttSentence]


class _DidemoMoment(BaseModel):
    video: str
    description: str


class _ActivityNetVideo(BaseModel):
    sentences: list[str]


def read_clips(lists: VideoTable | MsrVttLists | DidemoLists | ActivityNetLists) -> list[Clip]:
    """Read all videos of all splits, each once, with its captions in the order of the lists.

    In DiDeMo and ActivityNet the descriptions of a video are joined to one paragraph, which is its only caption. In MSR-VTT a
    training video has all its captions, a test video the one of the 1k-A list. ActivityNet's val1 is the test split.

    Raises:
        ConfigError: A list does not exist.
        DataError: A list is malformed, names a video twice or in two splits, or has a video without a caption.
    """
    path = any_path(lists.path)
    match lists:
        case VideoTable():
            clips = _merged(_table(path))
        case MsrVttLists():
            clips = list(_msrvtt(path, lists.train))
        case DidemoLists():
            clips = list(_didemo(path))
        case ActivityNetLists():
            clips = list(_activitynet(path))
    for clip in clips:
        if not clip.captions:
            raise DataError(
                f"{clip.source}: {clip.where} ({printable(clip.video)!r}) has no caption; add one or remove it"
            )
    return clips


def _table(path: AnyPath) -> Iterator[Clip]:
    source = printable(path)
    if path.suffix.lower() == ".json":
        rows = _parse(path, list[_TableRow])
        records = [(f"record {number}", row.video, row.caption, row.split) for number, row in enumerate(rows)]
    else:
        lines = _csv(path, ("video", "caption", "split"))
        records = [(where, row["video"], row["caption"], row["split"]) for where, row in lines]
    for where, video, caption, split in records:
        if split not in SPLIT_NAMES:
            known = ", ".join(sorted(SPLIT_NAMES))
            raise DataError(f"{source}: {where} has split {printable(split)!r}; known are {known}")
        captions = clean_captions([caption] if isinstance(caption, str) else caption)
        yield Clip(video, SPLIT_NAMES[split], captions, source, where)


def _merged(clips: Iterable[Clip]) -> list[Clip]:
    """Join the rows of a table that name one video."""
    merged: dict[str, Clip] = {}
    for clip in clips:
        first = merged.setdefault(clip.video, clip)
        if first.split != clip.split:
            both = f"{first.where} ({first.split}) and {clip.where} ({clip.split})"
            raise DataError(f"{clip.source}: {printable(clip.video)!r} is in two splits: {both}; keep one")
        if first is not clip:
            merged[clip.video] = first._replace(captions=first.captions + clip.captions)
    return list(merged.values())


def _msrvtt(folder: AnyPath, train: str) -> Iterator[Clip]:
    captions: dict[str, list[str]] = {}
    for sentence in _parse(folder / "MSRVTT_data.json", _MsrVttFile).sentences:
        captions.setdefault(sentence.video_id, []).append(sentence.caption)
    path = folder / f"MSRVTT_train.{train}.csv"
    for where, row in _csv(path, ("video_id",)):
        video = row["video_id"]
        yield Clip(video, "train", clean_captions(captions.get(video, [])), printable(path), where)
    path = folder / "MSRVTT_JSFUSION_test.csv"
    for where, row in _csv(path, ("video_id", "sentence")):
        yield Clip(row["video_id"], "test", clean_captions([row["sentence"]]), printable(path), where)


def _didemo(folder: AnyPath) -> Iterator[Clip]:
    for name, split in _DIDEMO:
        texts: dict[str, list[str]] = {}
        for moment in _parse(folder / f"{name}_data.json", list[_DidemoMoment]):
            texts.setdefault(moment.video, []).append(moment.description)
        path = folder / f"{name}_list.txt"
        for number, line in enumerate(_text(path).splitlines(), start=1):
            if video := line.strip():
                paragraph = clean_captions([" ".join(texts.get(video, []))])
                yield Clip(video, split, paragraph, printable(path), f"line {number}")


def _activitynet(folder: AnyPath) -> Iterator[Clip]:
    for ids, name, split in _ACTIVITYNET:
        videos = _parse(folder / f"{name}.json", dict[str, _ActivityNetVideo])
        path = folder / f"{ids}.json"
        for number, video in enumerate(_parse(path, list[str])):
            texts = videos[video].sentences if video in videos else []
            yield Clip(video, split, clean_captions([" ".join(texts)]), printable(path), f"record {number}")


def _parse(path: AnyPath, kind: type[_Parsed]) -> _Parsed:
    data = read_list(path, setting="lists.path")
    try:
        return TypeAdapter(kind).validate_json(data)
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False)[0]
        where = printable(".".join(str(step) for step in fault["loc"])) or "the whole"
        raise DataError(f"{printable(path)}: {where}: {printable(fault['msg'])}; copy the file again") from error


def _csv(path: AnyPath, columns: tuple[str, ...]) -> Iterator[tuple[str, dict[str, str]]]:
    """Give the rows of a CSV file with a heading, and the line at which each ends."""
    source = printable(path)
    reader = csv.DictReader(io.StringIO(_text(path), newline=""), strict=True)
    try:
        absent = [column for column in columns if column not in (reader.fieldnames or ())]
        if absent:
            held = some([printable(name) for name in reader.fieldnames or ()])
            raise DataError(
                f"{source}: no column {some(absent)}; its columns are {held or 'none'}; mend the first line"
            )
        for row in reader:
            where = f"line {reader.line_num}"
            if None in row or None in row.values():
                raise DataError(f"{source}: {where} has more or fewer cells than the first line; mend it")
            yield where, row
    except csv.Error as error:
        raise DataError(f"{source}: not CSV after line {reader.line_num} ({error}); mend it") from error


def _text(path: AnyPath) -> str:
    try:
        return read_list(path, setting="lists.path").decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{printable(path)}: not UTF-8 at byte {error.start}; save it as UTF-8") from error
