"""A bundle is what was exported, or it is refused."""

import errno
import json
import random
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.adapter_configs import EVERY, FEW
from tests.factories import listing, make_encode_plan, make_samples, make_store
from tests.faults import disk_faults
from xmadapter.bundle import BundleCard, export_bundle, load_bundle
from xmadapter.config import (
    AdapterConfig,
    TipConfig,
    TipFConfig,
)
from xmadapter.errors import ConfigError, IntegrityError, ResourceError, UnknownVersion
from xmadapter.evaluation import Interval
from xmadapter.features import FeatureStore
from xmadapter.fingerprint import sha256_file
from xmadapter.sealed import seal
from xmadapter.trial import TrialConfig, TrialResult, refit, run_trial

QUOTED = Interval(estimate=0.8, low=0.7, high=0.9)


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> FeatureStore:
    return make_store(tmp_path_factory.mktemp("features"), make_encode_plan(make_samples(per_class=4)))


def make_choice(store: FeatureStore, adapter: AdapterConfig) -> TrialResult:
    trial = TrialConfig(method=adapter.title, adapter=adapter, solve=adapter.default_solve, shots=2, seeds=(1, 2))
    return run_trial(store.tuning("fewshot-val"), trial)


def export(store: FeatureStore, choice: TrialResult, output: Path, *, seed: int = 2) -> Path:
    data = store.tuning("fewshot-val")
    return export_bundle(data, store.manifest, choice, seed=seed, test=QUOTED, output=str(output))


@pytest.fixture(scope="module")
def pristine(store: FeatureStore, tmp_path_factory) -> Path:
    return export(store, make_choice(store, TipFConfig(fit=FEW)), tmp_path_factory.mktemp("bundles") / "bundle")


def test_what_was_chosen_on_the_test_split_is_not_exported(store: FeatureStore, tmp_path):
    choice = make_choice(store, TipConfig()).model_copy(update={"protocol": "oracle"})
    with pytest.raises(ConfigError, match="chosen on the test split"):
        export(store, choice, tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


def test_a_choice_without_validation_images_says_so(store: FeatureStore, tmp_path):
    choice = make_choice(store, TipConfig()).model_copy(update={"validation": (), "validation_rows": 0})
    assert load_bundle(str(export(store, choice, tmp_path / "bundle"))).card.validation is None


@pytest.fixture
def bundle(pristine: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(pristine, tmp_path / "bundle"))


@pytest.mark.parametrize("adapter", EVERY, ids=lambda config: config.kind)
def test_a_bundle_computes_what_the_refitted_choice_computes(
    store: FeatureStore, tmp_path: Path, adapter: AdapterConfig
):
    choice = make_choice(store, adapter)
    loaded = load_bundle(str(export(store, choice, tmp_path / "bundle")))
    image = torch.tensor(store.test().data.features[:, 0])[None]
    expected = refit(store.tuning("fewshot-val"), choice, seeds=(2,))
    with torch.no_grad():
        assert torch.equal(loaded.adapter(image), expected(image))


def test_the_card_says_what_the_bundle_is(store: FeatureStore, tmp_path: Path):
    choice = make_choice(store, TipConfig())
    card = load_bundle(str(export(store, choice, tmp_path / "bundle"))).card
    assert (card.method, card.shots, card.seed, card.protocol) == ("Tip-Adapter", 2, 2, "fewshot-val")
    assert (card.validation, card.test) == (choice.validation[1], QUOTED)
    assert (card.class_names, card.encoder) == (store.manifest.recipe.class_names, store.manifest.recipe.encoder)
    assert card.plan_fingerprint == store.manifest.plan_fingerprint
    assert {name: getattr(card.adapter, name) for name in choice.solved} == choice.solved


def test_exporting_twice_gives_the_same_bytes(store: FeatureStore, tmp_path: Path):
    choice = make_choice(store, TipFConfig(fit=FEW))
    one, other = (export(store, choice, tmp_path / name) for name in ("one", "other"))
    for name in ("bundle.json", "adapter.safetensors"):
        assert (one / name).read_bytes() == (other / name).read_bytes()


def test_an_existing_output_is_refused_and_kept(store: FeatureStore, tmp_path: Path):
    (tmp_path / "bundle").mkdir()
    with pytest.raises(ConfigError, match="exists and was kept"):
        export(store, make_choice(store, TipConfig()), tmp_path / "bundle")
    assert listing(tmp_path) == ["bundle"]
    assert listing(tmp_path / "bundle") == []


def test_a_seed_that_was_not_swept_is_refused(store: FeatureStore, tmp_path: Path):
    with pytest.raises(ConfigError, match=r"swept over seeds \[1, 2\]; seed 5 is none of them"):
        export(store, make_choice(store, TipConfig()), tmp_path / "bundle", seed=5)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_after_a_fault_at_any_write_there_is_no_bundle_and_nothing_else(
    store: FeatureStore, tmp_path: Path, number: int
):
    choice = make_choice(store, TipConfig())
    with disk_faults() as calls:
        export(store, choice, tmp_path / "whole")
    # Behind the rename there is one more sync, of a bundle that is whole.
    writing = [
        at
        for at, name in enumerate(calls[: calls.index("replace") + 1])
        if name in ("open", "write", "fsync", "replace")
    ]
    for at in writing:
        with pytest.raises(ResourceError), disk_faults(fail_at=at, number=number):
            export(store, choice, tmp_path / "bundle")
        assert listing(tmp_path) == ["whole"]
    assert len(writing) > 5
    load_bundle(str(export(store, choice, tmp_path / "bundle")))


def test_an_output_that_cannot_be_made_is_told(store: FeatureStore, tmp_path: Path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ResourceError, match="cannot write"):
        export(store, make_choice(store, TipConfig()), tmp_path / "file" / "bundle")


@pytest.mark.parametrize(("name", "count"), [("adapter.safetensors", 200), ("bundle.json", 400)])
def test_a_flipped_bit_is_refused_or_harmless(bundle: Path, pristine: Path, name: str, count: int):
    chance, whole, refusals = random.Random(0), (bundle / name).read_bytes(), 0
    expected = load_bundle(str(pristine)).card
    for _ in range(count):
        bit, flipped = chance.randrange(8 * len(whole)), bytearray(whole)
        flipped[bit // 8] ^= 1 << bit % 8
        (bundle / name).write_bytes(flipped)
        try:
            assert load_bundle(str(bundle)).card == expected, f"bit {bit} of {name} changed the card unseen"
        except (IntegrityError, UnknownVersion):
            refusals += 1
    assert refusals > 0.9 * count


@pytest.mark.parametrize("size", [0, 10, 500, -1])
def test_truncated_tensors_are_refused(bundle: Path, size: int):
    path = bundle / "adapter.safetensors"
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(IntegrityError, match="other bytes than"):
        load_bundle(str(bundle))


def test_a_folder_without_a_bundle_says_how_to_make_one(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"holds no bundle; make one with pipelines\.export"):
        load_bundle(str(tmp_path))


def test_missing_tensors_are_told(bundle: Path):
    (bundle / "adapter.safetensors").unlink()
    with pytest.raises(IntegrityError, match=r"adapter\.safetensors is missing"):
        load_bundle(str(bundle))


def rewritten(bundle: Path, *, card: dict[str, object] | None = None, **envelope: object) -> None:
    """Change fields of the card, or of what surrounds it, as an editor would who knows nothing of the seal."""
    value = json.loads((bundle / "bundle.json").read_bytes()) | envelope
    value["content"] |= card or {}
    (bundle / "bundle.json").write_text(json.dumps(value))


def test_a_newer_format_is_told_as_such(bundle: Path):
    rewritten(bundle, format=3, colour="new")
    with pytest.raises(UnknownVersion, match="has format 3, this program reads 2; upgrade"):
        load_bundle(str(bundle))


@pytest.mark.parametrize("card", [b"", b"{", b"[]", b"null", b"{}", b"\xff"])
def test_a_card_that_is_none_is_refused(bundle: Path, card: bytes):
    (bundle / "bundle.json").write_bytes(card)
    with pytest.raises(IntegrityError):
        load_bundle(str(bundle))


@pytest.mark.parametrize(
    "change",
    [
        {"class_names": ["dog", "cat", "owl"]},
        {"shots": 16},
        {"validation": 0.99},
        {"method": "Better"},
        {"tensors_sha256": "0" * 64},
    ],
)
def test_an_edited_card_is_refused(bundle: Path, change: dict[str, object]):
    rewritten(bundle, card=change)
    with pytest.raises(IntegrityError, match="does not have the hash it names"):
        load_bundle(str(bundle))


@pytest.mark.parametrize("change", ["logits", "nan", "missing-logits", "missing-image", "missing-state", "shape"])
def test_tensors_that_compute_something_else_are_refused_whatever_their_hash(bundle: Path, change: str):
    path = bundle / "adapter.safetensors"
    tensors = load_file(path)
    match change:
        case "logits":
            tensors["probe.logits"] += 0.1
        case "nan":
            tensors["state.keys"][:] = torch.nan
        case "missing-logits":
            del tensors["probe.logits"]
        case "missing-image":
            del tensors["probe.image"]
        case "missing-state":
            del tensors["state.text"]
        case "shape":
            tensors["probe.logits"] = tensors["probe.logits"][:, :2].contiguous()
    save_file(tensors, path)
    resealed(bundle, tensors_sha256=sha256_file(path))
    with pytest.raises(IntegrityError, match=r"tensors|probe"):
        load_bundle(str(bundle))


def resealed(bundle: Path, **changes: object) -> None:
    """Change the card as a forger would, who knows how it is sealed."""
    card = BundleCard.model_validate(json.loads((bundle / "bundle.json").read_bytes())["content"] | changes)
    (bundle / "bundle.json").write_bytes(seal(card))


def test_the_files_hold_no_pickle(bundle: Path):
    assert listing(bundle) == ["adapter.safetensors", "bundle.json"]
    assert load_file(bundle / "adapter.safetensors")
    assert json.loads((bundle / "bundle.json").read_bytes())["format"] == 2
