"""A trained method as a folder: what is exported is what searches."""

import json

import pytest
import torch
from click.testing import CliRunner

from tests.factories import make_store
from tests.unit.retrieval.shapes import make_shapes
from xmadapter.bundle import load_bundle
from xmadapter.cli import cli
from xmadapter.config import ContrastiveConfig, CrossModalConfig, HeadsConfig
from xmadapter.errors import ConfigError, FingerprintMismatch, IntegrityError
from xmadapter.retrieval import FinetuneTrial, all_rows, export_retrieval, load_retrieval_bundle, run_finetune, trained
from xmadapter.search import open_searcher

FIT = ContrastiveConfig(epochs=3, batch_size=4, learning_rate=0.02)
CONFIGS = [
    HeadsConfig(fit=FIT),
    HeadsConfig(fit=FIT, over=CrossModalConfig()),
    CrossModalConfig(fit=FIT, towers="text", shared=0),
]


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    return make_shapes(tmp_path_factory.mktemp("shapes"))


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("store") / "features").manifest


def export(data, manifest, config, output, **changes):
    choice = run_finetune(
        data, FinetuneTrial(method="made up", adapter=config, images=8, seeds=(1, 2), state="made-up")
    )
    options = {"seed": 2, "features": "nowhere", "test": None, "states": None} | changes
    return choice, export_retrieval(data, manifest, choice, output=str(output), **options)


@pytest.mark.parametrize("config", CONFIGS, ids=["heads", "both towers", "text tower"])
def test_a_bundle_computes_what_was_trained(shapes, manifest, tmp_path, config):
    data, test = shapes
    choice, path = export(data, manifest, config, tmp_path / "bundle")
    with trained(data, choice.trial(None), seed=2) as model:
        sides = model.sides(test.data, test.media)
        text, image = all_rows(sides.text, 12), all_rows(sides.image, 8)
    bundle = load_retrieval_bundle(str(path))
    with bundle.model() as model:
        sides = model.sides(test.data, test.media)
        torch.testing.assert_close(all_rows(sides.text, 12), text, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(all_rows(sides.image, 8), image, atol=1e-5, rtol=1e-4)
    assert (bundle.card.method, bundle.card.images, bundle.card.seed) == ("made up", 8, 2)


def test_a_changed_byte_and_other_weights_are_refused(shapes, manifest, tmp_path):
    _, path = export(shapes[0], manifest, CONFIGS[0], tmp_path / "bundle")
    bundle = load_retrieval_bundle(str(path))
    bundle.tensors["state.heads.text"][0, 0] += 1
    with pytest.raises(IntegrityError, match="probe's features differ"), bundle.model():
        pass
    file = path / "adapter.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(IntegrityError, match=r"other bytes than retrieval\.json says"):
        load_retrieval_bundle(str(path))


def test_what_cannot_be_exported_or_is_no_bundle_is_said(shapes, manifest, tmp_path):
    choice, path = export(shapes[0], manifest, CONFIGS[0], tmp_path / "bundle")
    with pytest.raises(ConfigError, match="exists and was kept"):
        export(shapes[0], manifest, CONFIGS[0], tmp_path / "bundle")
    with pytest.raises(ConfigError, match=r"seeds \[1, 2\]; seed 7 is none"):
        export(shapes[0], manifest, CONFIGS[0], tmp_path / "other", seed=7)
    with pytest.raises(ConfigError, match="use xmadapter search"):
        load_bundle(str(path))
    with pytest.raises(ConfigError, match="no retrieval bundle"):
        load_retrieval_bundle(str(tmp_path))
    assert json.loads((path / "retrieval.json").read_bytes())["content"]["validation"] == pytest.approx(
        choice.validation[1].recall_sum / 600
    )


def test_a_bundle_does_not_search_a_store_of_another_encoder(shapes, manifest, tmp_path):
    store = make_store(tmp_path / "features")
    _, path = export(shapes[0], manifest, CONFIGS[0], tmp_path / "bundle", features=store.root)
    with pytest.raises(FingerprintMismatch, match="another encoder"), open_searcher(str(path)):
        pass
    result = CliRunner().invoke(cli, ["search", str(path), "red"])
    assert isinstance(result.exception, FingerprintMismatch)
