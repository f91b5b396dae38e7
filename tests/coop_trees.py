"""Miniatures of CoOp's eleven data sets, in the layout in which each lies on disk."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from xmadapter.config.data import CoopName
from xmadapter.data.coop_rules import coop_rules
from xmadapter.seeding import derive_seed

FOLDERS: dict[CoopName, str] = {
    "imagenet": "imagenet",
    "caltech101": "caltech-101",
    "oxford_pets": "oxford_pets",
    "stanford_cars": "stanford_cars",
    "oxford_flowers": "oxford_flowers",
    "food101": "food-101",
    "fgvc_aircraft": "fgvc_aircraft",
    "sun397": "sun397",
    "dtd": "dtd",
    "eurosat": "eurosat",
    "ucf101": "ucf101",
}
CLASSES: dict[CoopName, tuple[str, ...]] = {
    "imagenet": ("n01440764", "n01443537", "n01484850"),
    "caltech101": ("Faces", "airplanes", "yin_yang"),
    "oxford_pets": ("Abyssinian", "american_bulldog", "pug"),
    "stanford_cars": ("AM General Hummer SUV 2000", "Audi TT RS Coupe 2012", "BMW M3 Coupe 2012"),
    "oxford_flowers": ("rose", "daffodil", "tiger lily"),
    "food101": ("baby_back_ribs", "ramen", "sushi"),
    "fgvc_aircraft": ("707-320", "A330-200", "DC-3"),
    "sun397": ("a/abbey", "b/bow_window/outdoor", "c/cliff"),
    "dtd": ("banded", "dotted", "woven"),
    "eurosat": ("AnnualCrop", "Forest", "SeaLake"),
    "ucf101": ("ApplyEyeMakeup", "Basketball", "Diving"),
}
COUNTS = {"train": 10, "val": 4, "test": 6}


def plant(root: Path, dataset: CoopName) -> Path:
    """Write a data set below `root`, in its own folder; returns that folder."""
    folder, rules = root / FOLDERS[dataset], coop_rules(dataset)
    match rules.layout:
        case "split-file":
            split = {key: list(_listed(folder / rules.images, dataset, key)) for key in COUNTS}
            (folder / rules.listing).write_text(json.dumps(split))
        case "variants":
            (folder / rules.images).mkdir(parents=True)
            (folder / rules.listing).write_text("".join(f"{name}\n" for name in CLASSES[dataset]))
            for key in COUNTS:
                rows = [
                    f"{Path(str(path)).stem} {name}\n" for path, _, name in _listed(folder / rules.images, dataset, key)
                ]
                (folder / f"images_variant_{key}.txt").write_text("".join(rows))
        case "train-and-val":  # its validation images are the test split, and it has no others
            for key, count in (("train", COUNTS["train"] + COUNTS["val"]), ("val", COUNTS["test"])):
                for label, name in enumerate(CLASSES[dataset]):
                    for number in range(count):
                        _draw(folder / rules.images / key / name / f"{number}.JPEG", label)
            names = zip(CLASSES[dataset], ("tench", "goldfish", "great white shark"), strict=True)
            (folder / rules.listing).write_text("".join(f"{folder} {name}\n" for folder, name in names))
        case _:
            raise ValueError(f"{dataset} is none of the eleven")
    return folder


def _listed(images: Path, dataset: CoopName, key: str) -> Iterator[list[object]]:
    for label, name in enumerate(CLASSES[dataset]):
        for number in range(COUNTS[key]):
            path = f"{key}{label}{number}.jpg" if dataset == "fgvc_aircraft" else f"{label}/{key}_{number}.jpg"
            _draw(images / path, label)
            yield [path, label, name]


def _draw(path: Path, label: int) -> None:
    """A picture in the colour of its class, with noise of its own."""
    noise = np.random.default_rng(derive_seed(str(path))).integers(0, 120, (32, 32, 3))
    noise[..., label] += 110
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(noise.astype(np.uint8)).save(path, quality=95)
