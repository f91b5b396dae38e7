"""Captioned videos as folders of frames, with each of the four forms of lists."""

import json
from collections.abc import Iterable
from pathlib import Path

from tests.unit.data.makers import fill
from xmadapter.config.data import VideoData


def frame_folders(root: Path, names: Iterable[str], *, frames: int = 3) -> Path:
    """Videos as folders of frames: what a reader promises does not hang on a codec."""
    return fill(root, [f"{name}/{frame}.png" for name in names for frame in range(frames)])


def video_config(root: Path, lists: dict[str, str], **fields: object) -> VideoData:
    return VideoData.model_validate({"root": str(root), "lists": lists, "frames": 2, "held_out": 1} | fields)


TABLE = [
    ("a", "One.", "train"),
    ("b", "Two.", "train"),
    ("a", "One again.", "train"),
    ("c", "Three.", "val"),
    ("d", "Four, with a comma.", "test"),
]


def write_table(
    folder: Path, rows: list[tuple[str, ...]] = TABLE, *, heading: str = "video,caption,split"
) -> VideoData:
    frame_folders(folder / "videos", ["a", "b", "c", "d"])
    lines = [heading, *(",".join(f'"{cell}"' for cell in row) for row in rows)]
    (folder / "list.csv").write_text("\n".join(lines) + "\n")
    return video_config(folder / "videos", {"kind": "table", "path": str(folder / "list.csv")})


def write_msrvtt(folder: Path, *, test: str = "video4") -> VideoData:
    names = [f"video{number}" for number in range(5)]
    frame_folders(folder / "videos", names)
    sentences = [{"sen_id": at, "video_id": name, "caption": f"{name} text {at}"} for at in (0, 1) for name in names]
    (folder / "MSRVTT_data.json").write_text(json.dumps({"videos": [], "sentences": sentences}))
    (folder / "MSRVTT_train.9k.csv").write_text("\n".join(["video_id", *names[:4]]))
    test_rows = f"key,vid_key,video_id,sentence\nret0,msr4,{test},the one sentence\n"
    (folder / "MSRVTT_JSFUSION_test.csv").write_text(test_rows)
    return video_config(folder / "videos", {"kind": "msrvtt", "path": str(folder)})


def write_didemo(folder: Path) -> VideoData:
    frame_folders(folder / "videos", ["x.mov", "y@N02_1.mov", "z.avi"])
    for split, video in (("train", "x.mov"), ("val", "y@N02_1.mov"), ("test", "z.avi")):
        (folder / f"{split}_list.txt").write_text(f"{video}\n")
        moments = [{"video": video, "description": f"{at} moment\n", "times": [[0, 1]]} for at in ("first", "second")]
        (folder / f"{split}_data.json").write_text(json.dumps(moments))
    return video_config(folder / "videos", {"kind": "didemo", "path": str(folder)})


def write_activitynet(folder: Path) -> VideoData:
    names = ["v_one", "v_two", "v_three"]
    frame_folders(folder / "videos", names)
    facts = {name: {"duration": 9.5, "timestamps": [[0, 9]], "sentences": [f"{name}. ", " Ends."]} for name in names}
    for ids, data, chosen in (("train_ids", "train", names[:2]), ("val_ids", "val_1", names[2:])):
        (folder / f"{ids}.json").write_text(json.dumps(chosen))
        (folder / f"{data}.json").write_text(json.dumps({name: facts[name] for name in chosen}))
    return video_config(folder / "videos", {"kind": "activitynet", "path": str(folder)})
