import io
import re
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pyarrow.csv
import pytest
from PIL import Image

from tests.unit.reports.factories import make_final, make_report, make_sweep
from xmadapter.config import LinearProbeConfig, TipConfig, TipFConfig, ZeroShotConfig
from xmadapter.errors import ConfigError, FingerprintMismatch, MissingExtra
from xmadapter.features import Skipped
from xmadapter.reports import write_report
from xmadapter.reports.grid import make_grid
from xmadapter.reports.plots import plot_accuracy, plot_cost

NAMES = {"accuracy.png", "cost.png", "report.html", "report.md", "results.csv"}
EVIL = '<script>alert("1")</script>'


class Tags(HTMLParser):
    """Names of elements, and every address they refer to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.names: list[str] = []
        self.addresses: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.names.append(tag)
        self.addresses += [value for name, value in attrs if name in {"src", "href"}]


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


def written(report, folder: Path) -> dict[str, bytes]:
    page = write_report(report, str(folder))
    assert page == folder / "report.html"
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_same_report_gives_the_same_bytes(tmp_path: Path) -> None:
    first = written(make_report(make_sweep()), tmp_path / "deep" / "first")
    second = written(make_report(make_sweep()), tmp_path / "second")
    assert set(first) == NAMES
    assert first == second


def test_the_page_needs_nothing_beside_itself(tmp_path: Path) -> None:
    tags = Tags(written(make_report(make_sweep()), tmp_path)["report.html"].decode())
    assert len(tags.addresses) == 2
    assert all(address.startswith("data:image/png;base64,") for address in tags.addresses)
    assert "link" not in tags.names
    assert tags.names.count("table") == 5


def test_page_and_markdown_hold_what_a_reader_asks_for(tmp_path: Path) -> None:
    report = make_report(make_sweep(), skipped=[Skipped(sample_id="a.png", reason="truncated file")], looks=1)
    files = written(report, tmp_path)
    for text in (files["report.html"].decode(), files["report.md"].decode()):
        for words in (
            *("30 training", "24", "1,000 test images", "min(shots, 4)", "seeds (1, 2, 3)", "looked at 1 time in"),
            *("74.7 ±3.6", "Where methods lose to the linear probe", "within the interval", "Wilson", "Student"),
            *("ab" * 32, "12" * 32, "ef" * 32, "34" * 32, "a photo of a", "a.png: truncated file"),
            *("mlflow server --backend-store-uri sqlite:///mlflow.db", "2 failed"),
        ):
            assert words in text.replace("&#39;", "'")
    page = files["report.html"].decode()
    assert "ankle boot" in page
    assert "sharpness 5.25" in page
    table = pyarrow.csv.read_csv(io.BytesIO(files["results.csv"]))
    assert table.num_rows == 25


def test_more_than_one_look_at_the_test_split_is_a_warning(tmp_path: Path) -> None:
    files = written(make_report(make_sweep((4,)), looks=3), tmp_path)
    assert 'class="warning">Warning: the test split was looked at 3 times' in files["report.html"].decode()
    assert "Warning: the test split was looked at 3 times" in files["report.md"].decode()


def test_names_from_data_are_text_and_never_markup(tmp_path: Path) -> None:
    finals = [
        make_final(kind, (0.6, 0.7), method=f"{EVIL}|\x1b[31m{kind.kind}$x^{{$")
        for kind in (TipConfig(), LinearProbeConfig())
    ]
    skipped = [Skipped(sample_id=f"{EVIL}\udc80.png", reason=EVIL)]
    files = written(make_report(finals, title=EVIL, class_names=(EVIL, "b\u202e", "c\n"), skipped=skipped), tmp_path)
    page, markdown = files["report.html"].decode(), files["report.md"].decode()
    assert "script" not in Tags(page).names
    assert page.count("&lt;script&gt;") >= 8
    assert not re.search(r"(?<!\\)<script", markdown)
    for name in ("report.html", "report.md", "results.csv"):
        assert all(letter.isprintable() or letter == "\n" for letter in files[name].decode())


def test_the_password_of_a_tracking_server_stays_out(tmp_path: Path) -> None:
    files = written(make_report(make_sweep((4,)), tracking_uri="https://me:secret@mlflow.example:5000"), tmp_path)
    assert "https://***@mlflow.example:5000" in files["report.html"].decode()
    assert not any(b"secret" in content for content in files.values())


@pytest.mark.parametrize(
    "finals",
    [
        [make_final(TipConfig(), (0.7,))],
        [make_final(ZeroShotConfig(), (0.0, 0.0))],
        [make_final(TipConfig(), (1.0, 1.0), shots=shots, stored_bytes=0) for shots in (1, 16)],
        [
            make_final(TipFConfig(), (0.6, 0.7), shots=shots, method=f"m{number} " + "long " * 15)
            for number in range(12)
            for shots in (1, 3)
        ],
    ],
    ids=[
        "one method, one shot, one seed",
        "zero-shot alone, all wrong",
        "all right, nothing stored",
        "twelve long names",
    ],
)
def test_small_and_odd_sweeps_are_reported(finals: list, tmp_path: Path) -> None:
    files = written(make_report(finals), tmp_path)
    assert "There is no linear probe in this sweep" in files["report.md"].decode()
    assert "Differences" not in files["report.md"].decode()


def test_forty_classes_with_long_names_are_all_listed(tmp_path: Path) -> None:
    names = [f"variety {number} of a thing with a very long name, {'x' * 60}" for number in range(40)]
    final = make_final(TipConfig(), (0.6, 0.7), classes=40)
    page = written(make_report([final], class_names=names), tmp_path)["report.html"].decode()
    assert sum(name in page for name in names) == 40


@pytest.mark.parametrize("plot", [plot_accuracy, plot_cost])
def test_pictures_open_and_show_every_method_in_its_colour(plot) -> None:
    image = pixels(plot(make_grid(make_sweep()), title="fashion-mnist"))
    assert image.shape == (750, 1200, 3)
    colours = {"#0072B2", "#D55E00", "#009E73", "#CC79A7", "#5f5f5f"}
    for colour in colours:
        rgb = [int(colour[place : place + 2], 16) for place in (1, 3, 5)]
        # A marker alone covers more than this; antialiased text would not.
        assert (image == rgb).all(axis=-1).sum() > 60, colour


def test_a_title_changes_only_the_strip_above_the_picture() -> None:
    grid = make_grid(make_sweep())
    difference = (pixels(plot_accuracy(grid, title="a")) != pixels(plot_accuracy(grid, title="$\\frac{$"))).any(
        axis=(1, 2)
    )
    assert 0 < np.flatnonzero(difference).max() < 55


def test_features_of_other_classes_are_refused() -> None:
    with pytest.raises(FingerprintMismatch, match="3 classes, the features 2"):
        make_report(make_sweep(), class_names=("a", "b"))


def test_two_protocols_are_refused() -> None:
    with pytest.raises(ConfigError, match="protocols"):
        make_report([make_final(TipConfig(), (0.7,)), make_final(ZeroShotConfig(), (0.7,), protocol="full-val")])


def test_without_matplotlib_nothing_is_written_and_the_install_command_is_shown(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    for name in [name for name in sys.modules if name.startswith("xmadapter.reports.plots")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(MissingExtra, match=r"matplotlib.*pip install 'xmadapter\[reports\]'"):
        write_report(make_report(make_sweep((4,))), str(tmp_path / "report"))
    assert not (tmp_path / "report").exists()


def test_a_report_without_base_classes_or_shifts_has_no_word_of_them(tmp_path: Path) -> None:
    page = written(make_report(make_sweep()), tmp_path)["report.html"].decode()
    assert "base classes" not in page
    assert "Harmonic mean" not in page
    assert "fewer training images" not in page
