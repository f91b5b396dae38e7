"""Make a Parquet file of the 1,797 handwritten digits that scikit-learn ships: 8 x 8 pixels, 10 classes.

Run: `python -m benchmarks.make_digits runs/benchmark/digits.parquet`. Half of each class is train, a fifth validation, the rest test,
by the order of a hash of the image's number. The data are the test set of UCI's "Optical Recognition of Handwritten Digits"
(E. Alpaydin and C. Kaynak, 1998), CC BY 4.0.
"""

import argparse
import hashlib
import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from sklearn.datasets import load_digits

from xmadapter.storage import write_durably

NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
TRAIN, VALIDATION = 0.5, 0.2


def png(pixels: np.ndarray) -> bytes:
    """Encode 17 grey levels as a PNG."""
    file = io.BytesIO()
    Image.fromarray(np.minimum(pixels * 16, 255).astype(np.uint8)).save(file, format="PNG")
    return file.getvalue()


def rows() -> list[dict[str, object]]:
    """List image, label and split, class by class."""
    images, labels = load_digits(return_X_y=True)
    found: list[dict[str, object]] = []
    for label, name in enumerate(NAMES):
        numbers = np.flatnonzero(labels == label).tolist()
        order = sorted(numbers, key=lambda number: hashlib.sha256(f"digit {number}".encode()).digest())
        bounds = round(TRAIN * len(order)), round((TRAIN + VALIDATION) * len(order))
        for place, number in enumerate(order):
            split = "train" if place < bounds[0] else "validation" if place < bounds[1] else "test"
            found.append({"image": png(images[number].reshape(8, 8)), "label": name, "split": split})
    return found


def main() -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path)
    output = parser.parse_args().output
    output.parent.mkdir(parents=True, exist_ok=True)
    table = pa.Table.from_pylist(rows())
    write_durably(output, lambda file: pq.write_table(table, file))
    print(f"{table.num_rows} digits in {output}")


if __name__ == "__main__":
    main()
