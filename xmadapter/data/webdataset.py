"""Read the index of WebDataset shards: tar archives in which the members of a sample share a name up to its first dot."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import BinaryIO, NamedTuple

from xmadapter.config.data import WebDatasetData
from xmadapter.data.captions import clean_captions
from xmadapter.data.files import BadImage
from xmadapter.data.media import ByteRange, media_uri
from xmadapter.data.names import printable
from xmadapter.data.objects import AnyPath, any_path, open_any
from xmadapter.data.paths import read_list
from xmadapter.data.samples import NO_LABEL, Sample, SampleIndex, Split, build_index, require_captions, require_usable
from xmadapter.data.shards import split_shards
from xmadapter.data.splitting import Candidate, assign_splits
from xmadapter.data.tar import Member, tar_members
from xmadapter.errors import ConfigError, DataError, some

__all__ = ["read_webdataset"]

_MAX_SAMPLES = 5_000_000
_MAX_TEXT_BYTES = 1 << 20
_READERS = 8


class _Record(NamedTuple):
    """A sample as its shard tells it; `label` is the text of its class member."""

    sample_id: str
    split: Split
    media: str
    label: str
    captions: tuple[str, ...]


class _Found(NamedTuple):
    """The wanted members of a sample by extension, and its texts by the fields that want them; as text it says where."""

    shard: AnyPath
    key: str
    members: dict[str, Member]
    texts: dict[str, list[str]]

    def __str__(self) -> str:
        return f"{printable(self.shard)}: sample {printable(self.key)!r}"


def read_webdataset(config: WebDatasetData) -> SampleIndex:
    """Read names, classes and captions; images stay in their shards, and `read_media` takes them from there by byte range.

    A member `a/b.jpg` belongs to the sample `a/b`. Its class is a text member (`a/b.cls`) or a field of a JSON member; its
    captions likewise. All other members are ignored by their extension and never read, so neither pickles nor tensors
    (.pyd, .pkl, .pth, .npy) do anything. An id is SPLIT/NAME, so how samples are spread over shards does not matter.

    Classes are those of `config.classes`, and labels numbers among them or their names; without it labels are class names,
    ordered by their bytes. Without `config.label` the index has captions and no classes. Validation that is carved out of
    train is drawn by the hash of the id, since reading every image for it would take longer than all the rest: copies of an
    image under two names may then lie in both.

    A shard in a bucket is read in windows, several shards at once; nothing of it is kept on the disk.

    Raises:
        ConfigError: No shard matches, a named one is missing, or `config.classes` cannot be read.
        DataError: A shard is compressed, cut short or damaged; a sample lacks its image, class or caption, or has two images;
            two samples share a name; or there is too little to work with.
    """
    patterns: dict[Split, str] = {"train": config.train, "test": config.test}
    if config.validation is not None:
        patterns["validation"] = config.validation
    records = _read_shards(split_shards(patterns), config)
    source = config.train
    names = _class_names(records, config, source)
    labels = _labels(records, names, config, source)
    splits = _splits(records, source)
    samples = [
        Sample(record.sample_id, split, record.media, label, record.captions)
        for record, split, label in zip(records, splits, labels, strict=True)
    ]
    require = require_usable if config.label else require_captions
    return require(build_index(samples, names), source=source)


def _read_shards(shards: Mapping[Split, Sequence[AnyPath]], config: WebDatasetData) -> list[_Record]:
    records: list[_Record] = []
    paths = [path for found in shards.values() for path in found]
    splits = [split for split, found in shards.items() for _ in found]
    with ThreadPoolExecutor(_READERS) as pool:
        for part in pool.map(partial(_read_shard, config=config), paths, splits):
            records += part
            if len(records) > _MAX_SAMPLES:
                pool.shutdown(cancel_futures=True)
                raise DataError(f"{config.train}: over {_MAX_SAMPLES} samples in all; take fewer shards")
    return records


def _read_shard(shard: AnyPath, split: Split, *, config: WebDatasetData) -> list[_Record]:
    source = printable(shard)
    try:
        with open_any(shard) as file:
            return [_record(found, split, config) for found in _group(file, shard, config)]
    except BadImage as bad:
        raise ConfigError(f"{source}: cannot open the shard ({bad}); correct `{split}`") from bad
    except OSError as error:
        raise DataError(f"{source}: cannot read it ({error.strerror}); nothing was written, run again") from error


def _group(file: BinaryIO, shard: AnyPath, config: WebDatasetData) -> Iterable[_Found]:
    """Collect the members that are wanted by the name of their sample; texts are read on the way, so a shard is passed once."""
    fields = [field for field in (config.label, config.captions) if field]
    wanted = {extension.lower() for extension in config.image} | {field.partition(".")[0] for field in fields}
    samples: dict[str, _Found] = {}
    for member in tar_members(file, source=printable(shard)):
        folder, slash, name = member.name.rpartition("/")
        stem, _, extension = name.partition(".")
        key, extension = folder + slash + stem, extension.lower()
        found = samples.setdefault(key, _Found(shard, key, {}, {}))
        if extension not in wanted:
            continue
        other = found.members.setdefault(extension, member)
        if other is not member:
            both = f"at offsets {other.offset} and {member.offset}"
            raise DataError(f"{printable(shard)}: two members {printable(member.name)!r}, {both}; rename or remove one")
        for field in fields:
            if field.partition(".")[0] == extension:
                found.texts[field] = _texts(found, field, file)
    return samples.values()


def _record(found: _Found, split: Split, config: WebDatasetData) -> _Record:
    images = [found.members[name] for extension in config.image if (name := extension.lower()) in found.members]
    if len(images) != 1:
        held = some([printable(image.name) for image in images]) if images else "none"
        known = ", ".join(config.image)
        raise DataError(f"{found} needs one image member ({known}), it has {held}; mend the shard or set `image`")
    label = found.texts.get(config.label, []) if config.label else [""]
    if len(label) != 1:
        raise DataError(f"{found} has {len(label) or 'no'} class in {config.label!r}; mend the shard or set `label`")
    captions = clean_captions(found.texts.get(config.captions, [])) if config.captions else ()
    if not (config.label or captions):
        raise DataError(f"{found} has neither class nor caption; mend the shard, or set `label` or `captions`")
    media = media_uri(found.shard, part=ByteRange(images[0].offset, images[0].size_bytes))
    return _Record(f"{split}/{printable(found.key)}", split, media, label[0].strip(), captions)


def _texts(found: _Found, field: str, file: BinaryIO) -> list[str]:
    """Read a text member, or one field of a JSON member: a text, a whole number, or a list of texts; absent is empty."""
    extension, _, name = field.partition(".")
    member = found.members[extension]
    where = f"its .{extension} at offset {member.offset}"
    if member.size_bytes > _MAX_TEXT_BYTES:
        raise DataError(f"{found}: {where} holds {member.size_bytes} bytes; at most {_MAX_TEXT_BYTES} are read")
    try:
        file.seek(member.offset)
        text = file.read(member.size_bytes).decode("utf-8-sig")
        value = json.loads(text).get(name) if name else text
    except (ValueError, AttributeError, RecursionError) as error:
        wanted = "a JSON object" if name else "UTF-8 text"
        raise DataError(f"{found}: {where} is not {wanted}; mend the shard") from error
    match value:
        case None:
            return []
        case str():
            return [value]
        case int() if not isinstance(value, bool):
            return [str(value)]
        case list() if all(isinstance(item, str) for item in value):
            return value
    raise DataError(f"{found}: {field!r} is neither a text, a whole number nor a list of texts; mend the shard")


def _class_names(records: Sequence[_Record], config: WebDatasetData, source: str) -> tuple[str, ...]:
    if not config.label:
        return ()
    if isinstance(config.classes, str):
        return _read_names(any_path(config.classes))
    if config.classes is not None:
        return config.classes
    names = sorted({record.label for record in records}, key=str.encode)
    if names and all(name.isdecimal() for name in names):
        raise DataError(f"{source}: classes are numbers ({some(names)}) without names; set `classes`")
    odd = [repr(printable(name)) for name in names if not name or len(name.splitlines()) > 1]
    if odd:
        raise DataError(f"{source}: {some(odd)} is no class name for a prompt; mend the shards, or set `label`")
    return tuple(names)


def _read_names(path: AnyPath) -> tuple[str, ...]:
    try:
        lines = read_list(path, setting="classes").decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ConfigError(f"{printable(path)}: cannot read class names from it; correct `classes`") from error
    return tuple(line.strip() for line in lines if line.strip())


def _labels(records: Sequence[_Record], names: tuple[str, ...], config: WebDatasetData, source: str) -> list[int]:
    if not config.label:
        return [NO_LABEL] * len(records)
    positions = {name: label for label, name in enumerate(names)}
    if config.classes is not None:
        positions |= {str(label): label for label in range(len(names))}
    for record in records:
        if record.label not in positions:
            which = f"{source}: sample {record.sample_id!r} has class {printable(record.label[:80])!r}"
            raise DataError(f"{which}, which is none of the {len(names)} in `classes`; correct `classes`")
    return [positions[record.label] for record in records]


def _splits(records: Sequence[_Record], source: str) -> list[Split]:
    """Keep the splits of the shards; without validation, carve it out of train by the hash of ids."""
    digests = [hashlib.sha256(record.sample_id.encode()).hexdigest() for record in records]
    candidates = [
        Candidate(record.sample_id, record.label, record.split, digest)
        for record, digest in zip(records, digests, strict=True)
    ]
    split_of = assign_splits(candidates, source=source)
    return [split_of[digest] for digest in digests]
