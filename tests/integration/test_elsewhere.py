"""From base classes to novel ones and to shifted images, with a class that has fewer images than shots."""

import shutil
from pathlib import Path

import pytest

from tests.integration.line import CLASSES, Desk, Done, draw_images, encode_config, mlflow_runs, parents, sweep_config
from xmadapter.final import FinalResult
from xmadapter.results import open_sweep_folder

pytestmark = pytest.mark.timeout(300)  # Ray starts in the first test, on a machine that may be busy

COUNTS = {"train": 4, "val": 2, "test": 5}
METHODS = [{"adapter": {"kind": kind}} for kind in ("zero-shot", "clip-adapter", "fused")]
METHODS[1] |= {"adapter": {"kind": "clip-adapter", "fit": {"epochs": 5}}, "trials": 1}
BASE, NOVEL = CLASSES[:2], CLASSES[2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("elsewhere")


@pytest.fixture(scope="module")
def tested(folder: Path, desk: Desk) -> Done:
    images = draw_images(folder / "images", counts=COUNTS, side=32)
    shifted = draw_images(folder / "shifted", counts=COUNTS, side=64)
    for path in sorted((images / "train" / BASE[1]).iterdir())[1:]:
        path.unlink()
    for split in COUNTS:
        shutil.rmtree(shifted / split / NOVEL)
    for name, source in (("features", images), ("sketches", shifted)):
        config = encode_config(folder / f"{name}.yaml", source, output=str(folder / name))
        assert desk("pipelines.encode", "--config", config).status == 0
    base = {"methods": METHODS, "shots": [2], "classes": "base"}
    refused = desk("pipelines.sweep", "--config", sweep_config(folder / "sweep.yaml", folder / "features", **base))
    assert refused.status == 3
    assert f"{BASE[1]} has 1; lower `shots` to 1, or set `short_classes: take-all`" in refused.errors[0]
    taken = sweep_config(folder / "sweep.yaml", folder / "features", **base, short_classes="take-all")
    assert desk("pipelines.sweep", "--config", taken).status == 0
    return desk("pipelines.evaluate", f"sweep={folder / 'sweep'}", f"shifted.sketches={folder / 'sketches'}")


def test_both_are_scored_beside_the_base_classes(tested: Done, folder: Path):
    assert tested.status == 0
    finals = open_sweep_folder(str(folder / "sweep")).finals(FinalResult)
    assert [final.choice.method for final in finals] == ["Zero-shot", "CLIP-Adapter", "Fused adapter"]
    for final in finals:
        assert (final.test_rows, len(final.class_accuracy), final.choice.short) == (10, 2, {BASE[1]: 1})
        novel, sketches = final.elsewhere
        assert (novel.name, novel.unseen, novel.test_rows, novel.test) == ("novel classes", True, 5, (1.0, 1.0))
        assert (sketches.name, sketches.unseen, sketches.test_rows) == ("sketches", False, 10)
        assert len(sketches.test) == 2


def test_the_report_and_mlflow_say_so(tested: Done, folder: Path, desk: Desk):
    done = desk("pipelines.report", f"sweep={folder / 'sweep'}", f"output={folder / 'report'}")
    assert done.status == 0
    for name in ("report.md", "report.html"):
        text = (folder / "report" / name).read_text()
        assert "of which the first 2 are base classes" in text
        assert "1 class had fewer training images and gave all: green square 1" in text
        for title in ("On novel classes", "Harmonic mean", "On sketches"):
            assert title in text
    found = parents(mlflow_runs(folder / "mlflow.db", "shapes"))
    assert found["Zero-shot"].metrics["elsewhere/novel classes"] == {2: 1.0}
    assert set(found["Fused adapter"].metrics["elsewhere/sketches"]) == {2}


def test_what_cannot_be_compared_costs_no_look(tested: Done, folder: Path, desk: Desk):
    before = open_sweep_folder(str(folder / "sweep")).looks
    config = encode_config(
        folder / "other.yaml", folder / "shifted", output=str(folder / "other"), encoder={"kind": "tiny", "dim": 16}
    )
    assert desk("pipelines.encode", "--config", config).status == 0
    done = desk("pipelines.evaluate", f"sweep={folder / 'sweep'}", f"shifted.other={folder / 'other'}")
    assert done.status == 2
    assert "other was encoded by" in done.errors[0]
    missing = desk("pipelines.evaluate", f"sweep={folder / 'sweep'}", f"shifted.gone={folder / 'gone'}")
    assert (missing.status, len(missing.errors)) == (4, 1)
    assert open_sweep_folder(str(folder / "sweep")).looks == before
