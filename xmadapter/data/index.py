"""From a data set's configuration to its sample index."""

from xmadapter.config.encode import DataConfig, ImageFolderData, ParquetData
from xmadapter.data.image_folder import read_image_folder
from xmadapter.data.parquet import read_parquet
from xmadapter.data.samples import INDEX_SCHEMA, SPLITS, Sample, SampleIndex, Split, build_index

__all__ = ["INDEX_SCHEMA", "SPLITS", "Sample", "SampleIndex", "Split", "build_index", "read_index"]


def read_index(data: DataConfig) -> SampleIndex:
    """Read the index of a data set with the reader its kind names.

    Returns:
        An index with images in all three splits and a training image for every class.

    Raises:
        ConfigError: The path does not exist.
        DataError: The data set is malformed or has too little to work with.
    """
    match data:
        case ImageFolderData():
            return read_image_folder(data.root)
        case ParquetData():
            return read_parquet(data)
