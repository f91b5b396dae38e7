"""From a data set's configuration to its sample index and its prompts."""

from xmadapter.config.data import (
    CoopData,
    CsvData,
    DataConfig,
    HuggingFaceData,
    IdxData,
    ImageFolderData,
    KarpathyData,
    ParquetData,
    VideoData,
    WebDatasetData,
)
from xmadapter.data.coop import read_coop
from xmadapter.data.coop_rules import coop_rules
from xmadapter.data.csv import read_csv
from xmadapter.data.huggingface import read_huggingface
from xmadapter.data.idx import read_idx
from xmadapter.data.image_folder import read_image_folder
from xmadapter.data.karpathy import read_karpathy
from xmadapter.data.parquet import read_parquet
from xmadapter.data.samples import INDEX_SCHEMA, SPLITS, Sample, SampleIndex, Split, build_index
from xmadapter.data.video_reader import read_video
from xmadapter.data.webdataset import read_webdataset

__all__ = [
    "INDEX_SCHEMA",
    "SPLITS",
    "Sample",
    "SampleIndex",
    "Split",
    "build_index",
    "read_index",
    "recommended_prompts",
]


def read_index(data: DataConfig, images_per_class: int | None = None) -> SampleIndex:
    """Read the index of a data set with the reader its kind names.

    Args:
        data: Where it is.
        images_per_class: As of `SampleIndex.thin`; None keeps all.

    Returns:
        An index with images in all three splits; only the shifted test sets of ImageNet have test images alone. It has a
        training image for every class, or no classes, and captions in each split.

    Raises:
        ConfigError: The path does not exist.
        DataError: The data set is malformed or has too little to work with.
    """
    index = _read(data)
    return index if images_per_class is None else index.thin(images_per_class)


def _read(data: DataConfig) -> SampleIndex:
    match data:
        case CoopData():
            return read_coop(data)
        case CsvData():
            return read_csv(data)
        case HuggingFaceData():
            return read_huggingface(data)
        case IdxData():
            return read_idx(data)
        case ImageFolderData():
            return read_image_folder(data.root)
        case KarpathyData():
            return read_karpathy(data)
        case ParquetData():
            return read_parquet(data)
        case VideoData():
            return read_video(data)
        case WebDatasetData():
            return read_webdataset(data)


def recommended_prompts(data: DataConfig) -> tuple[str, ...]:
    """Give the template that publications use for a data set, or the plain one."""
    match data:
        case CoopData():
            return (coop_rules(data.dataset).template,)
        case _:
            return ("a photo of a {}.",)
