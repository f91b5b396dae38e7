"""Data sets: readers that return one kind of index, media bytes and pixels, prompts."""

from xmadapter.data.coop import read_coop
from xmadapter.data.crashes import decode_reasons
from xmadapter.data.csv import read_csv
from xmadapter.data.few_shot_lists import FewShotList, read_few_shot_lists
from xmadapter.data.huggingface import read_huggingface
from xmadapter.data.idx import read_idx
from xmadapter.data.image_folder import read_image_folder
from xmadapter.data.index import read_index, recommended_prompts
from xmadapter.data.karpathy import read_karpathy
from xmadapter.data.media import (
    MAX_BYTES,
    MAX_PIXELS,
    BadImage,
    BadImageReason,
    ByteRange,
    FrameOf,
    IdxRow,
    MediaLocation,
    decode_image,
    media_uri,
    parse_media_uri,
    read_media,
)
from xmadapter.data.parquet import read_parquet
from xmadapter.data.prompts import clean_class_name
from xmadapter.data.samples import INDEX_SCHEMA, SPLITS, Sample, SampleIndex, Split, build_index
from xmadapter.data.video_reader import read_video
from xmadapter.data.webdataset import read_webdataset

__all__ = [
    "INDEX_SCHEMA",
    "MAX_BYTES",
    "MAX_PIXELS",
    "SPLITS",
    "BadImage",
    "BadImageReason",
    "ByteRange",
    "FewShotList",
    "FrameOf",
    "IdxRow",
    "MediaLocation",
    "Sample",
    "SampleIndex",
    "Split",
    "build_index",
    "clean_class_name",
    "decode_image",
    "decode_reasons",
    "media_uri",
    "parse_media_uri",
    "read_coop",
    "read_csv",
    "read_few_shot_lists",
    "read_huggingface",
    "read_idx",
    "read_image_folder",
    "read_index",
    "read_karpathy",
    "read_media",
    "read_parquet",
    "recommended_prompts",
    "read_video",
    "read_webdataset",
]
