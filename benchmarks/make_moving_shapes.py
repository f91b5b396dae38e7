"""Make short videos of moving shapes, with captions that no single frame bears out.

python -m benchmarks.make_moving_shapes runs/retrieval/shapes

In each video a shape goes along a path and changes its colour on the way; that lasts 6 of 16 frames, and the caption tells it. The
other frames show a bystander at rest that no caption mentions. So one frame tells the shape, one of its two colours and a place that
lies on two paths, and most frames tell nothing. Every caption stands once: the splits hold other combinations of the same shapes,
colours and paths. The same seed gives the same pictures; their bytes are the codec's.

Writes FOLDER/videos/NUMBER.mp4 and FOLDER/captions.json, a table that `data: {kind: video}` takes.
"""

import argparse
import json
import math
from collections.abc import Sequence
from itertools import combinations, product
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from PIL import Image, ImageDraw

from xmadapter.seeding import derive_seed
from xmadapter.storage import write_durably

SIDE, FRAMES, EVENT = 96, 16, 6
COLOURS = {
    "red": (225, 45, 45),
    "orange": (245, 150, 30),
    "yellow": (240, 235, 60),
    "green": (40, 180, 60),
    "cyan": (60, 220, 230),
    "blue": (60, 80, 235),
    "purple": (150, 50, 200),
    "white": (245, 245, 245),
}
SHAPES = ("circle", "square", "triangle", "star", "cross", "ring")
ROWS, COLUMNS = ("top", "middle", "bottom"), ("left", "middle", "right")
PATHS = {f"along the {row}": ("row", place) for place, row in enumerate(ROWS)} | {
    f"down the {column}": ("column", place) for place, column in enumerate(COLUMNS)
}
TRAIN_PERCENT, VALIDATION_PERCENT = 60, 15

Point = tuple[float, float]
"""Across and down, from 0 to 1."""


class Event(NamedTuple):
    """What a video tells: a shape in two colours, the path it takes."""

    shape: str
    before: str
    after: str
    path: str

    @property
    def caption(self) -> str:
        return f"{named(self.before)} {self.shape} turns {self.after} on its way {self.path}"


def named(colour: str) -> str:
    """A colour behind its article."""
    return f"{'an' if colour[0] in 'aeiou' else 'a'} {colour}"


def events() -> list[Event]:
    """List all there can be; colours come in one order, as a mean over frames cannot tell the other."""
    pairs = combinations(COLOURS, 2)
    return [Event(shape, *pair, path) for shape, pair, path in product(SHAPES, pairs, PATHS)]


def draw(shape: str, colour: str, centre: Point, rng: np.random.Generator) -> Image.Image:
    """Draw one shape on dark noise, of about a quarter of the picture's width."""
    picture = Image.fromarray(rng.integers(0, 25, (SIDE, SIDE, 3), dtype=np.uint8))
    canvas, fill = ImageDraw.Draw(picture), COLOURS[colour]
    radius = SIDE * rng.uniform(0.12, 0.16)
    x, y = (SIDE * value for value in centre)
    box = (x - radius, y - radius, x + radius, y + radius)
    match shape:
        case "circle":
            canvas.ellipse(box, fill=fill)
        case "square":
            canvas.rectangle(box, fill=fill)
        case "triangle":
            canvas.polygon(_corners(x, y, [radius] * 3), fill=fill)
        case "star":
            canvas.polygon(_corners(x, y, [1.2 * radius, 0.45 * radius] * 5), fill=fill)
        case "cross":
            canvas.rectangle((x - radius, y - radius / 3, x + radius, y + radius / 3), fill=fill)
            canvas.rectangle((x - radius / 3, y - radius, x + radius / 3, y + radius), fill=fill)
        case _:
            canvas.ellipse(box, outline=fill, width=round(radius / 2.5))
    return picture


def place(field: Sequence[int], rng: np.random.Generator) -> Point:
    """A point in one of nine fields, given as column and row."""
    across, down = (0.2 + 0.3 * number + rng.uniform(-0.04, 0.04) for number in field)
    return across, down


def render(event: Event, rng: np.random.Generator) -> list[Image.Image]:
    """Draw the frames of a video."""
    bystander = (rng.choice(SHAPES), rng.choice(list(COLOURS)), place(rng.integers(0, 3, 2).tolist(), rng))
    start = rng.integers(0, FRAMES - EVENT + 1)
    across, number = PATHS[event.path]
    fixed = 0.2 + 0.3 * number + rng.uniform(-0.04, 0.04)
    frames = []
    for frame in range(FRAMES):
        step = frame - start
        if not 0 <= step < EVENT:
            frames.append(draw(*bystander, rng))
            continue
        way = 0.15 + 0.7 * step / (EVENT - 1)
        centre = (way, fixed) if across == "row" else (fixed, way)
        frames.append(draw(event.shape, event.before if step < EVENT // 2 else event.after, centre, rng))
    return frames


def write_video(path: Path, frames: Sequence[Image.Image]) -> None:
    """Write frames as H.264, on one thread: the same bytes again with the same build of FFmpeg."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=8, options={"crf": "20", "g": "8", "threads": "1"})
        stream.width, stream.height, stream.pix_fmt = SIDE, SIDE, "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_image(frame)))
        container.mux(stream.encode())


def make_videos(folder: Path, count: int, *, seed: int = 0) -> dict[str, int]:
    """Write the first `count` of all events in an order drawn by the seed; returns the number of videos by split."""
    (folder / "videos").mkdir(parents=True, exist_ok=True)
    chosen = np.random.default_rng(derive_seed("moving shapes", seed)).permutation(len(everything := events()))
    train, validation = count * TRAIN_PERCENT // 100, count * VALIDATION_PERCENT // 100
    splits = ["train"] * train + ["val"] * validation + ["test"] * (count - train - validation)
    rows = []
    for number, split in enumerate(splits):
        event, name = everything[chosen[number]], f"{number:04d}.mp4"
        rng = np.random.default_rng(derive_seed("moving shapes", seed, number))
        write_video(folder / "videos" / name, render(event, rng))
        rows.append({"video": name, "caption": event.caption, "split": split})
    content = json.dumps(rows, indent=0).encode()
    write_durably(folder / "captions.json", lambda file: file.write(content))
    return {split: splits.count(split) for split in ("train", "val", "test")}


def _corners(x: float, y: float, radii: Sequence[float]) -> list[Point]:
    """Corners at equal angles, the first above the centre."""
    angles = [2 * math.pi * corner / len(radii) for corner in range(len(radii))]
    return [
        (x + radius * math.sin(angle), y - radius * math.cos(angle))
        for radius, angle in zip(radii, angles, strict=True)
    ]


def main() -> None:
    """Write videos and captions."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--videos", type=int, default=600, help=f"how many; at most {len(events())}")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    if not 7 <= arguments.videos <= len(events()):
        parser.error(f"--videos must be from 7 to {len(events())}: every caption stands once, every split has one")
    print(f"{arguments.folder}: {make_videos(arguments.folder, arguments.videos, seed=arguments.seed)}")


if __name__ == "__main__":
    main()
