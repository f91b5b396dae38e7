"""Make the split of a set of drawings for image-text retrieval, in Karpathy's format.

python -m benchmarks.make_caption_list stamps runs/retrieval/stamps.json
python -m benchmarks.make_caption_list openclipart runs/retrieval/openclipart.json

Each of Tux Paint's stamps comes with an English sentence. Of Openclipart's animals, food, plants and vehicles the file names are the
captions, without digits; many end in the name of who drew them, which no picture shows. Images and texts stay under their licence in
the packages tuxpaint-stamps-default and openclipart-png; the list is made on the machine that has them. Near-duplicates, as in
`make_stamp_lists`, stay on one side of the split.
"""

import argparse
import json
import re
import sys
import warnings
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from benchmarks.make_stamp_lists import Picture, candidates, is_near
from xmadapter.data.splitting import Candidate, deal
from xmadapter.errors import DataError
from xmadapter.storage import write_durably

TRAIN_PERCENT, VALIDATION_PERCENT = 55, 15
SPLIT_NAMES = {"train": "train", "validation": "val", "test": "test"}


CLIP_ART = ("animals", "food", "plants", "transportation")


def sentences(root: Path) -> list[tuple[Picture, str]]:
    """Find the stamps that have a sentence, ordered by path."""
    found = sorted(candidates(root, ("",), "stamp"), key=lambda one: one.path)
    texts = ((one, (root / one.path).with_suffix(".txt")) for one in found)
    lines = ((one, text.read_text("utf-8").splitlines()) for one, text in texts if text.is_file())
    return [(one, text[0].strip()) for one, text in lines if text and text[0].strip()]


def names(root: Path) -> list[tuple[Picture, str]]:
    """Find drawings whose file names are words, ordered by path."""
    found = sorted(candidates(root, CLIP_ART, "drawing"), key=lambda one: one.path)
    words = ((one, re.sub(r"[^A-Za-z]+", " ", Path(one.path).stem).strip().lower()) for one in found)
    return [(one, text) for one, text in words if len(text) > 2]


SETS = {
    "stamps": (Path("/usr/share/tuxpaint/stamps"), "tuxpaint-stamps-default", sentences),
    "openclipart": (Path("/usr/share/openclipart/png"), "openclipart-png", names),
}
"""By name: where the Debian package puts it, the package, and what captions its pictures."""


def groups(pictures: list[Picture]) -> list[int]:
    """Number the groups of images that are near to one another, directly or through others."""
    pairs = [
        (row, other)
        for row, one in enumerate(pictures)
        for other in range(row)
        if any(is_near(one, flip, [pictures[other]]) for flip in (slice(None), slice(None, None, -1)))
    ]
    rows, others = np.array(pairs).T if pairs else np.zeros((2, 0), int)
    graph = coo_array((np.ones(len(rows)), (rows, others)), shape=(len(pictures), len(pictures)))
    return connected_components(graph, directed=False)[1].tolist()


def cut(n: int) -> tuple[int, int, int]:
    """Cut n groups into train, validation and test."""
    train, validation = n * TRAIN_PERCENT // 100, n * VALIDATION_PERCENT // 100
    return train, validation, n - train - validation


def main() -> int:
    """Write the list; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("set", choices=sorted(SETS))
    parser.add_argument("output", type=Path, help="JSON file to write")
    arguments = parser.parse_args()
    root, package, captioned = SETS[arguments.set]
    warnings.simplefilter("error", Image.DecompressionBombWarning)  # which decode_image answers with BadImage
    if not root.is_dir():
        print(f"error[data]: {root} is absent; run: apt-get install {package}", file=sys.stderr)
        return DataError.exit_status
    found = captioned(root)
    numbers = groups([one for one, _ in found])
    first: dict[int, str] = {}
    for (one, _), number in zip(found, numbers, strict=True):
        first[number] = min(first.get(number, one.digest), one.digest)
    splits = deal([Candidate(str(number), "stamp", None, digest) for number, digest in first.items()], cut)
    images = [
        {
            "imgid": row,
            "filename": one.path,
            "split": SPLIT_NAMES[splits[first[number]]],
            "sentids": [row],
            "sentences": [{"raw": text, "tokens": text.split(), "imgid": row, "sentid": row}],
        }
        for row, ((one, text), number) in enumerate(zip(found, numbers, strict=True))
    ]
    content = json.dumps({"dataset": arguments.set, "images": images}, ensure_ascii=False).encode()
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    write_durably(arguments.output, lambda file: file.write(content))
    counts = {name: sum(image["split"] == name for image in images) for name in SPLIT_NAMES.values()}
    print(f"{arguments.output}: {len(images)} images in {len(first)} groups; {counts}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
