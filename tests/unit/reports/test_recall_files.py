import io
import re
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pyarrow.csv
import pytest
from PIL import Image

from tests.unit.reports.recall_factories import make_recall_final, make_recall_report, make_recall_sweep
from xmadapter.config import CrossModalConfig, HeadsConfig, LoraConfig, ZeroShotRetrievalConfig
from xmadapter.errors import MissingExtra
from xmadapter.features import Skipped
from xmadapter.reports import mlflow_steps, write_recall_report
from xmadapter.reports.grid import make_recall_grid
from xmadapter.reports.plots import plot_recall

NAMES = {"recall.png", "report.html", "report.md", "results.csv"}
TWO = [make_recall_final(ZeroShotRetrievalConfig(), (10, 10, 10)), make_recall_final(LoraConfig(), (12, 13, 14))]
EVIL = '<script>alert("1")</script>'


class Tags(HTMLParser):
    """Names of elements, every address they refer to, and the text of bold cells."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.names: list[str] = []
        self.addresses: list[str] = []
        self.bold: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.names.append(tag)
        self.addresses += [value for name, value in attrs if name in {"src", "href"}]

    def handle_data(self, data):
        if self.names and self.names[-1] == "b":
            self.bold.append(data)


def pixels(png: bytes) -> np.ndarray:
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


def written(report, folder: Path) -> dict[str, bytes]:
    page = write_recall_report(report, str(folder))
    assert page == folder / "report.html"
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_same_report_gives_the_same_bytes(tmp_path: Path) -> None:
    first = written(make_recall_report(make_recall_sweep((100, 500))), tmp_path / "deep" / "first")
    second = written(make_recall_report(make_recall_sweep((100, 500))), tmp_path / "second")
    assert set(first) == NAMES
    assert first == second


def test_the_page_needs_nothing_beside_itself(tmp_path: Path) -> None:
    tags = Tags(written(make_recall_report(TWO), tmp_path)["report.html"].decode())
    assert len(tags.addresses) == 1
    assert tags.addresses[0].startswith("data:image/png;base64,")
    assert "link" not in tags.names
    assert tags.names.count("table") == 3


def test_page_and_markdown_hold_what_a_reader_asks_for(tmp_path: Path) -> None:
    skipped = [Skipped(sample_id="a.png", reason="truncated file")]
    report = make_recall_report(make_recall_sweep((100, 500)), skipped=skipped)
    files = written(report, tmp_path)
    for text in (files["report.html"].decode(), files["report.md"].decode()):
        for words in (
            *("trained on 100 and 500 of 30 training images", "24 images", "20 captions", "looked at 1 time in"),
            *("28 trials finished, 1 was stopped early, 2 failed", "Student", "bootstrap", "Ties count against"),
            *("With 500 training images, UniAdapter is best by validation", "80.0", "149,620,737", "221,184"),
            *("worse with 100 training images", "not told apart", "as far as 3 seeds can tell", "2 trials: Diverged"),
            *("ab" * 32, "12" * 32, "ef" * 32, "34" * 32, "1, 2, 3", "a.png: truncated file"),
            "mlflow server --backend-store-uri sqlite:///mlflow.db",
        ):
            assert words in text.replace("&#39;", "'"), words
        assert "a photo of a" not in text  # prompts take no part where captions are the texts
    table = pyarrow.csv.read_csv(io.BytesIO(files["results.csv"]))
    assert table.num_rows == 14


def test_numbers_of_the_page_by_hand_with_the_best_in_bold(tmp_path: Path) -> None:
    files = written(make_recall_report(TWO), tmp_path)
    page = files["report.html"].decode()
    # Recall@1, 5 and 10 and the median rank in two directions, and the mean recall.
    assert Tags(page).bold == ["65.0", "65.0", "65.0", "1.0"] * 2 + ["65.0"]
    assert page.count("<small>±12.4</small>") == 7
    assert "<td>50.0</td>" in page
    row = next(line for line in files["report.md"].decode().splitlines() if line.startswith("| LoRA |"))
    assert row.startswith("| LoRA | **65.0** ±12.4 | **65.0** ±12.4 | **65.0** ±12.4 | **1.0** |")
    assert row.endswith("| 1,000 | 4.0 | 2 | 4.0 |")


def test_one_seed_is_reported_without_intervals_over_seeds(tmp_path: Path) -> None:
    files = written(make_recall_report(make_recall_sweep(seeds=1)), tmp_path)
    assert "<small>±" not in files["report.html"].decode()
    assert "One seed gives no interval" in files["report.md"].decode()


def test_several_captions_per_image_name_the_convention(tmp_path: Path) -> None:
    files = written(make_recall_report([make_recall_final(LoraConfig(), (40, 50), captions=5)]), tmp_path)
    markdown = files["report.md"].decode()
    assert "convention “caption”" in markdown
    assert "captions of one image are drawn together" in markdown


def test_more_than_one_look_at_the_test_split_is_a_warning(tmp_path: Path) -> None:
    files = written(make_recall_report(TWO, looks=3), tmp_path)
    assert 'class="warning">Warning: the test split was looked at 3 times' in files["report.html"].decode()


def test_names_are_text_and_never_markup(tmp_path: Path) -> None:
    finals = [
        make_recall_final(kind, (12, 13), method=f"{EVIL}|\x1b[31m{kind.kind}$x^{{$")
        for kind in (ZeroShotRetrievalConfig(), HeadsConfig(), LoraConfig())
    ]
    skipped = [Skipped(sample_id=f"{EVIL}\udc80.png", reason=EVIL)]
    files = written(make_recall_report(finals, title=EVIL, skipped=skipped), tmp_path)
    page, markdown = files["report.html"].decode(), files["report.md"].decode()
    assert "script" not in Tags(page).names
    assert page.count("&lt;script&gt;") >= 8
    assert not re.search(r"(?<!\\)<script", markdown)
    for name in ("report.html", "report.md", "results.csv"):
        assert all(letter.isprintable() or letter == "\n" for letter in files[name].decode())


def test_the_password_of_a_tracking_server_stays_out(tmp_path: Path) -> None:
    report = make_recall_report(TWO, tracking_uri="https://me:secret@mlflow.example:5000")
    files = written(report, tmp_path)
    assert mlflow_steps(report)[0] == "https://***@mlflow.example:5000"
    assert not any(b"secret" in content for content in files.values())


@pytest.mark.parametrize("images", [(100,), (100, 500, 2000)], ids=["over parameters", "over images"])
def test_pictures_open_and_show_every_method_in_its_colour(images: tuple[int, ...]) -> None:
    image = pixels(plot_recall(make_recall_grid(make_recall_sweep(images)), title="flickr8k"))
    assert image.shape == (750, 1200, 3)
    for colour in ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#5f5f5f"):
        rgb = [int(colour[place : place + 2], 16) for place in (1, 3, 5)]
        # A marker alone covers more than this; antialiased text would not.
        assert (image == rgb).all(axis=-1).sum() > 60, colour


@pytest.mark.parametrize(
    "finals",
    [
        [make_recall_final(ZeroShotRetrievalConfig(), (0,))],
        [make_recall_final(LoraConfig(), (20, 20), trained_parameters=0)],
        [
            make_recall_final(CrossModalConfig(), (12, 13), images=images, method=f"m{number} " + "long " * 15)
            for number in range(12)
            for images in (50, 100)[: 1 + number % 2]
        ],
    ],
    ids=["zero-shot alone, all wrong", "all right, nothing trained", "twelve long names, some at one number only"],
)
def test_small_and_odd_sweeps_are_reported(finals: list, tmp_path: Path) -> None:
    files = written(make_recall_report(finals), tmp_path)
    assert "Linear heads are not in this sweep" in files["report.md"].decode()
    assert pixels(files["recall.png"]).shape[1] == 1200


def test_without_matplotlib_nothing_is_written_and_the_install_command_is_shown(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    for name in [name for name in sys.modules if name.startswith("xmadapter.reports.plots")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(MissingExtra, match=r"matplotlib.*pip install 'xmadapter\[reports\]'"):
        write_recall_report(make_recall_report(TWO), str(tmp_path / "report"))
    assert not (tmp_path / "report").exists()
