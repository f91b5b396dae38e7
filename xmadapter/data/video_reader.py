"""Read the index of captioned videos: each video becomes a row for each of its frames."""

import hashlib
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import PurePath

from xmadapter.config.data import VideoData
from xmadapter.data.media import FrameOf, media_uri
from xmadapter.data.names import printable
from xmadapter.data.objects import AnyPath, any_path
from xmadapter.data.paths import Listed, locate, require_any_file, require_folder, scan
from xmadapter.data.samples import NO_LABEL, Sample, SampleIndex, build_index, require_captions
from xmadapter.data.video_lists import Clip, read_clips
from xmadapter.errors import DataError, some

__all__ = ["read_video"]

_VIDEO_SUFFIXES = frozenset(
    {".mp4", ".m4v", ".mov", ".webm", ".mkv", ".avi", ".flv", ".mpg", ".mpeg", ".wmv", ".3gp", ".ts"}
)

_Listing = tuple[frozenset[str], dict[str, list[str]]]


def read_video(config: VideoData) -> SampleIndex:
    """Read lists and look for the videos; none is opened.

    A video becomes `config.frames` rows with the ids VIDEO/000, VIDEO/001 …, where VIDEO is its name in the list: all rows
    whose id agrees up to the last `/` are one video, and a retrieval pools them. Captions stand in the row of frame 0 and there
    alone, so that each is counted and encoded once. The frames are the centres of as many equal segments; a video with fewer
    frames repeats some. Media are `FILE#frame=3&of=12`.

    A name is looked for below `config.root` as it stands, then with any extension of a video in place of its own or behind
    it; a folder of that name holds frames. A video that is not there stays in the index: whoever decodes it skips its rows with
    a reason, as such data sets always lack some. Where the lists have no validation, `config.held_out` training videos become
    it, drawn by the hash of their names.

    Raises:
        ConfigError: The folder or a list does not exist, or the folder holds none of the videos.
        DataError: A list is malformed, names a video twice or one outside of the folder, two files could be meant by one name,
            or a split has too little to work with.
    """
    root = require_folder(any_path(config.root))
    clips = _hold_out(read_clips(config.lists), config.held_out)
    listing = cache(_listing)
    found = [_find(clip, root, listing) for clip in clips]
    _refuse_twice(found, clips)
    samples = [
        sample for place, clip in zip(found, clips, strict=True) for sample in _frames(place, clip, config.frames)
    ]
    index = require_captions(build_index(samples, ()), source=printable(any_path(config.lists.path)))
    require_any_file(found, folder=root)
    return index


def _hold_out(clips: list[Clip], count: int) -> list[Clip]:
    if any(clip.split == "validation" for clip in clips):
        return clips
    train = [clip.video for clip in clips if clip.split == "train"]
    if count >= len(train):
        raise DataError(f"`held_out` takes {count} of {len(train)} training videos for validation; lower it")
    drawn = set(sorted(train, key=_hash)[:count])
    return [clip._replace(split="validation") if clip.video in drawn else clip for clip in clips]


def _hash(video: str) -> str:
    return hashlib.sha256(video.encode("utf-8", "surrogatepass")).hexdigest()


def _find(clip: Clip, root: AnyPath, listing: Callable[[AnyPath], _Listing]) -> Listed:
    place = locate(clip.video, folder=root, source=clip.source, where=clip.where)
    names, by_stem = listing(place.path.parent)
    if place.path.name in names:
        return place
    stem = PurePath(place.path.name).stem if _is_video(place.path.name) else place.path.name
    meant = {*by_stem.get(place.path.name, ()), *by_stem.get(stem, ())}
    if len(meant) > 1:
        both = some([printable(name) for name in meant])
        raise DataError(f"{clip.source}: {clip.where}: {printable(clip.video)!r} can be any of {both}; name the file")
    return place._replace(path=place.path.parent / meant.pop()) if meant else place


def _listing(folder: AnyPath) -> _Listing:
    """List a folder: all names, and those of videos and folders by what stands before the extension."""
    by_stem: dict[str, list[str]] = {}
    try:
        names = scan(folder)
    except OSError:  # an absent folder: its videos are missing, each with its own reason
        names = []
    for name, is_folder in names:
        if is_folder or _is_video(name):
            by_stem.setdefault(name if is_folder else PurePath(name).stem, []).append(name)
    return frozenset(name for name, _ in names), by_stem


def _is_video(name: str) -> bool:
    return PurePath(name).suffix.lower() in _VIDEO_SUFFIXES


def _refuse_twice(found: Iterable[Listed], clips: Iterable[Clip]) -> None:
    """Refuse two names for one file, as its captions would be spread over two videos."""
    first: dict[AnyPath, Clip] = {}
    for place, clip in zip(found, clips, strict=True):
        other = first.setdefault(place.path, clip)
        if other is not clip:
            both = f"{printable(other.video)!r} ({other.split}, {other.where})"
            raise DataError(
                f"{clip.source}: {clip.where}: {printable(clip.video)!r} ({clip.split}) is the file of {both}; remove one"
            )


def _frames(place: Listed, clip: Clip, count: int) -> list[Sample]:
    return [
        Sample(
            f"{place.sample_id}/{frame:03d}",
            clip.split,
            media_uri(place.path, part=FrameOf(frame, count)),
            NO_LABEL,
            () if frame else clip.captions,
        )
        for frame in range(count)
    ]
