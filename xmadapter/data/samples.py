"""The sample index: the one Arrow table that every reader returns."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from xmadapter.errors import DataError, some
from xmadapter.fingerprint import fingerprint
from xmadapter.seeding import derive_seed

__all__ = [
    "INDEX_SCHEMA",
    "NO_LABEL",
    "SPLITS",
    "SPLIT_NAMES",
    "Sample",
    "SampleIndex",
    "Split",
    "build_index",
    "require_captions",
    "require_usable",
]

Split = Literal["train", "validation", "test"]

SPLITS: tuple[Split, ...] = ("train", "validation", "test")

SPLIT_NAMES: dict[str, Split] = {
    "train": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
}
"""Names of splits in folders and columns, and what they stand for."""

NO_LABEL = -1
"""Label of every row where captions say what an image shows, and the index has no class names."""

INDEX_SCHEMA = pa.schema(
    [
        pa.field("sample_id", pa.string(), nullable=False),
        pa.field("split", pa.dictionary(pa.int8(), pa.string()), nullable=False),
        pa.field("media", pa.string(), nullable=False),
        pa.field("label", pa.int32(), nullable=False),
        pa.field("captions", pa.list_(pa.string()), nullable=False),
        pa.field("sha256", pa.binary()),
    ]
)


class Sample(NamedTuple):
    """One row of an index.

    `label` is a position in the index's class names, or `NO_LABEL` if it has none; `media` is a URI of
    `xmadapter.data.media`, with an absolute path when a reader made it. `sha256` is that of the encoded bytes, where the
    reader read them: an image that moves is then still the same one, and one that changes is not.
    """

    sample_id: str
    split: Split
    media: str
    label: int
    captions: tuple[str, ...] = ()
    sha256: bytes | None = None


@dataclass(frozen=True)
class SampleIndex:
    """Which images there are, where each lies, and what it shows.

    Args:
        table: Rows of `INDEX_SCHEMA`, ascending by the bytes of `sample_id`, each id once; `build_index` makes them so.
        class_names: Names for prompts; a label is a position in it. Empty for data of captions without classes.

    Raises:
        DataError: The table breaks one of these rules.
    """

    table: pa.Table
    class_names: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.table.schema.equals(INDEX_SCHEMA):
            raise DataError(
                f"a sample index has the columns {_columns(INDEX_SCHEMA)}; got {_columns(self.table.schema)}"
            )
        if len(set(self.class_names)) < len(self.class_names):
            doubles = sorted({name for name in self.class_names if self.class_names.count(name) > 1})
            raise DataError(f"class names appear twice: {some(doubles)}; give each class its own name")
        holes = [field.name for field in INDEX_SCHEMA if not field.nullable and self.table[field.name].null_count]
        if holes:
            raise DataError(f"a sample index has no empty cells; these columns do: {some(holes)}")
        _check_ids(self.table)
        _check_splits(self.table)
        _check_labels(self.table, len(self.class_names))

    def select(self, split: Split) -> "SampleIndex":
        """Keep the rows of one split, with the same class names."""
        return SampleIndex(self.table.filter(pc.field("split") == split), self.class_names)

    def thin(self, images_per_class: int) -> "SampleIndex":
        """Keep at most so many training and as many validation images of each class, and all test images.

        Images are ranked by a hash of their id, so a larger number keeps those of a smaller one, and no other image changes
        whether one is kept.

        Raises:
            DataError: The index has no classes.
        """
        if not self.class_names:
            raise DataError("images_per_class thins out classes, and data of captions has none; leave it empty")
        rank = np.array([derive_seed("thin", sample_id) for sample_id in self.table["sample_id"].to_pylist()], np.int64)
        split = self.table["split"].combine_chunks().indices.to_numpy()
        label = self.table["label"].to_numpy()
        order = np.lexsort((rank, label, split))
        starts = np.flatnonzero(np.diff(split[order], prepend=-1) | np.diff(label[order], prepend=-1))
        place = np.arange(len(order)) - np.repeat(starts, np.diff(starts, append=len(order)))
        kept = np.empty(len(order), bool)
        kept[order] = place < images_per_class
        return SampleIndex(self.table.filter(pa.array(kept | (split == SPLITS.index("test")))), self.class_names)

    @property
    def fingerprint(self) -> str:
        """Hash of ids, splits, labels, captions and class names.

        Where the images lie is left out, so a moved data set keeps its fingerprint. Their bytes are left out too: whoever
        plans work on them hashes them with `read_media`.
        """
        columns = [self.table[name].to_pylist() for name in ("sample_id", "split", "label", "captions")]
        return fingerprint(
            {"class_names": list(self.class_names), "samples": [list(row) for row in zip(*columns, strict=True)]}
        )

    def counts(self) -> dict[Split, dict[str, int]]:
        """Count images per split and class name; classes without any are there with 0."""
        splits = np.asarray(self.table["split"].cast(pa.string()).to_pylist(), dtype=object)
        labels = self.table["label"].to_numpy()
        return {
            split: dict(zip(self.class_names, _count(labels[splits == split], len(self.class_names)), strict=True))
            for split in SPLITS
        }

    def caption_counts(self) -> dict[Split, tuple[int, int]]:
        """Count the images and the captions of each split."""
        counts: dict[Split, tuple[int, int]] = {}
        for split in SPLITS:
            part = self.table.filter(pc.field("split") == split)
            counts[split] = part.num_rows, sum(len(chunk.flatten()) for chunk in part["captions"].chunks)
        return counts


def build_index(samples: Iterable[Sample], class_names: Iterable[str]) -> SampleIndex:
    """Put samples into a checked index, in the order of the bytes of their ids.

    The order they come in does not matter, nor does the locale.

    Raises:
        DataError: Two samples share an id, or a split or label is unknown.
    """
    # Python orders text by code points, which is the order of its UTF-8 bytes.
    rows = sorted(samples, key=lambda sample: sample.sample_id)
    for row, following in pairwise(rows):
        if row.sample_id == following.sample_id:
            raise DataError(
                f"two samples have the id {row.sample_id!r}: {row.media} and {following.media}; rename or remove one"
            )
    unknown = sorted({row.split for row in rows} - set(SPLITS))
    if unknown:
        raise DataError(f"unknown split names: {some(unknown)}; splits are {', '.join(SPLITS)}")
    codes = pa.array([SPLITS.index(row.split) for row in rows], pa.int8())
    arrays = [
        pa.array([row.sample_id for row in rows], pa.string()),
        pa.DictionaryArray.from_arrays(codes, pa.array(SPLITS, pa.string())),
        pa.array([row.media for row in rows], pa.string()),
        pa.array([row.label for row in rows], pa.int32()),
        pa.array([list(row.captions) for row in rows], pa.list_(pa.string())),
        pa.array([row.sha256 for row in rows], pa.binary()),
    ]
    return SampleIndex(pa.Table.from_arrays(arrays, schema=INDEX_SCHEMA), tuple(class_names))


def require_usable(index: SampleIndex, *, source: str) -> SampleIndex:
    """Return the index if few-shot training and its evaluation can use it.

    Args:
        index: What a reader found.
        source: Folder or file it came from, for the message.

    Raises:
        DataError: There are fewer than two classes, a class has no training image, or a split has none at all.
    """
    if len(index.class_names) < 2:
        raise DataError(
            f"{source}: classification needs at least 2 classes, got {len(index.class_names)}; add images of another class"
        )
    counts = index.counts()
    absent = [repr(name) for name, count in counts["train"].items() if not count]
    if absent:
        raise DataError(f"{source}: classes without a training image: {some(absent)}; add images or remove the class")
    for split in SPLITS:
        if not any(counts[split].values()):
            raise DataError(
                f"{source}: no {split} images ({index.table.num_rows} in all); add some, at best of every class"
            )
    return index


def require_captions(index: SampleIndex, *, source: str) -> SampleIndex:
    """Return the index if training for retrieval and its evaluation can use it.

    Raises:
        DataError: A split has no image or no caption.
    """
    for split, (images, captions) in index.caption_counts().items():
        if not images or not captions:
            raise DataError(
                f"{source}: the {split} split has {images} images with {captions} captions ({index.table.num_rows} images in"
                " all); retrieval needs some of both in each split"
            )
    return index


def _columns(schema: pa.Schema) -> str:
    return ", ".join(f"{field.name}: {field.type}" for field in schema)


def _check_ids(table: pa.Table) -> None:
    for name, following in pairwise(table["sample_id"].to_pylist()):
        if name >= following:
            raise DataError(f"sample ids must ascend, each once: {name!r} comes before {following!r}; use build_index")


def _check_splits(table: pa.Table) -> None:
    unknown = sorted(set(table["split"].unique().to_pylist()) - set(SPLITS))
    if unknown:
        raise DataError(f"unknown split names: {some(unknown)}; splits are {', '.join(SPLITS)}")


def _check_labels(table: pa.Table, classes: int) -> None:
    known = range(classes) if classes else (NO_LABEL,)
    wrong = [label for label in table["label"].unique().to_pylist() if label not in known]
    if wrong and not classes:
        named = some([str(label) for label in wrong])
        raise DataError(f"without class names every label is {NO_LABEL}; got {named}")
    if wrong:
        raise DataError(
            f"labels are positions among {classes} class names; got {some([str(label) for label in wrong])}"
        )


def _count(labels: np.ndarray, classes: int) -> list[int]:
    return np.bincount(labels, minlength=classes).tolist() if classes else []
