"""Data sets: readers that return one kind of index, media bytes and pixels, prompts."""

from xmadapter.data.image_folder import read_image_folder
from xmadapter.data.index import read_index
from xmadapter.data.media import (
    MAX_BYTES,
    MAX_PIXELS,
    BadImage,
    BadImageReason,
    MediaLocation,
    decode_image,
    media_uri,
    parse_media_uri,
    read_media,
)
from xmadapter.data.parquet import read_parquet
from xmadapter.data.prompts import clean_class_name
from xmadapter.data.samples import INDEX_SCHEMA, SPLITS, Sample, SampleIndex, Split, build_index

__all__ = [
    "INDEX_SCHEMA",
    "MAX_BYTES",
    "MAX_PIXELS",
    "SPLITS",
    "BadImage",
    "BadImageReason",
    "MediaLocation",
    "Sample",
    "SampleIndex",
    "Split",
    "build_index",
    "clean_class_name",
    "decode_image",
    "media_uri",
    "parse_media_uri",
    "read_image_folder",
    "read_index",
    "read_media",
    "read_parquet",
]
