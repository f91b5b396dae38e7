"""Make the demo's sample of Fashion-MNIST: 10 classes with 30 training, 10 validation and 100 test images each.

python -m benchmarks.make_fashion_sample

The source is the Debian package dataset-fashion-mnist. Images are drawn by the order of a hash of their number, so the same
pinned Pillow and pyarrow write the same bytes again.
"""

import argparse
import gzip
import hashlib
import io
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import PIL
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, features

from xmadapter.errors import DataError, XMAdapterError
from xmadapter.storage import write_durably

CLASS_NAMES = ("t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
TRAIN, VALIDATION, TEST = 30, 10, 100
ROWS_PER_GROUP = 200
OUTPUT = Path(__file__).parents[1] / "pipelines" / "configs" / "demo" / "fashion-mnist-sample.parquet"
SCHEMA = pa.schema([("image", pa.binary()), ("label", pa.string()), ("split", pa.string())])
LICENCE = """MIT License

Copyright (c) 2017 Zalando SE

Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated documentation files
(the "Software"), to deal in the Software without restriction, including without limitation the rights to use, copy, modify, merge,
publish, distribute, sublicense, and/or sell copies of the Software, and to permit persons to whom the Software is furnished to do
so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF
MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR COPYRIGHT HOLDERS BE LIABLE
FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION
WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.
"""


class Row(NamedTuple):
    """One image of the sample, as it stands in the file."""

    image: bytes
    label: str
    split: str


def draw(labels: np.ndarray, *, official: str, label: int, count: int) -> list[int]:
    """Choose images of one class from an official set, by the order of `sha256("SET/NUMBER")`."""
    numbers = np.flatnonzero(labels == label).tolist()
    return sorted(numbers, key=lambda number: hashlib.sha256(f"{official}/{number}".encode()).digest())[:count]


def encode_png(pixels: np.ndarray) -> bytes:
    """Write grey pixels as PNG, as small as Pillow can."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", optimize=True)
    return file.getvalue()


def read_idx(path: Path, *, axes: int) -> np.ndarray:
    """Read a gzipped IDX file of unsigned bytes: a magic number, one length per axis, the values.

    Raises:
        DataError: The file is absent or is something else.
    """
    if not path.is_file():
        raise DataError(f"{path} is absent; run: apt-get install dataset-fashion-mnist, or give --source FOLDER")
    data = gzip.decompress(path.read_bytes())
    shape = np.frombuffer(data, ">u4", count=axes, offset=4).tolist()
    if data[:4] != bytes([0, 0, 8, axes]) or len(data) != 4 + 4 * axes + np.prod(shape):
        raise DataError(f"{path} is no IDX file of bytes with {axes} axes; install dataset-fashion-mnist again")
    return np.frombuffer(data, np.uint8, offset=4 + 4 * axes).reshape(shape)


def sample(source: Path) -> Iterator[Row]:
    """Draw all rows, by split, then class, then rank."""
    train = (
        read_idx(source / "train-images-idx3-ubyte.gz", axes=3),
        read_idx(source / "train-labels-idx1-ubyte.gz", axes=1),
    )
    test = (
        read_idx(source / "t10k-images-idx3-ubyte.gz", axes=3),
        read_idx(source / "t10k-labels-idx1-ubyte.gz", axes=1),
    )
    for split, official, (images, labels), first, last in (
        ("train", "train", train, 0, TRAIN),
        ("validation", "train", train, TRAIN, TRAIN + VALIDATION),
        ("test", "test", test, 0, TEST),
    ):
        for label, name in enumerate(CLASS_NAMES):
            for number in draw(labels, official=official, label=label, count=last)[first:]:
                yield Row(encode_png(images[number]), name, split)


def write_sample(rows: list[Row], output: Path) -> None:
    """Write the Parquet file; PNG does not shrink again, so only names are packed, as dictionaries."""
    columns = [
        pa.array(list(values), field.type) for field, values in zip(SCHEMA, zip(*rows, strict=True), strict=True)
    ]
    facts = {
        "title": "Sample of Fashion-MNIST, light on dark",
        "source": "Debian package dataset-fashion-mnist; Xiao, Rasul and Vollgraf, 2017, arXiv 1708.07747",
        "licence": LICENCE,
        "made_with": made_with(),
    }
    file = io.BytesIO()
    with pq.ParquetWriter(
        file, SCHEMA, compression="none", use_dictionary=["label", "split"], store_schema=False, write_statistics=False
    ) as writer:
        writer.write_table(pa.Table.from_arrays(columns, schema=SCHEMA), row_group_size=ROWS_PER_GROUP)
        writer.add_key_value_metadata(facts)
    write_durably(output, lambda target: target.write(file.getvalue()))


def made_with() -> str:
    """Name what decides the bytes of the file beside this script."""
    zlib = features.version("zlib_ng") or features.version("zlib")
    return f"Pillow {PIL.__version__}, zlib {zlib}, pyarrow {pa.__version__}"


def main() -> int:
    """Write the sample and say how large it is; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--source", type=Path, default=Path("/usr/share/datasets/fashion-mnist"), help="folder of IDX files"
    )
    parser.add_argument("--output", type=Path, default=OUTPUT, help="Parquet file to write")
    arguments = parser.parse_args()
    try:
        rows = list(sample(arguments.source))
        write_sample(rows, arguments.output)
    except XMAdapterError as error:
        print(f"error[{error.code}]: {error}", file=sys.stderr)
        return error.exit_status
    print(f"{arguments.output}: {len(rows)} images, {arguments.output.stat().st_size} bytes")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
