"""promote: make a bundle the champion of its data set and backbone, if it is better than the one that is."""

import json
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from xmadapter.bundle import BundleCard, load_bundle
from xmadapter.errors import ConfigError, FingerprintMismatch, NotBetter
from xmadapter.evaluation import Interval, image_interval
from xmadapter.features import open_features
from xmadapter.final import FinalResult
from xmadapter.records import encoder_name
from xmadapter.reports.wording import bounds, points
from xmadapter.results import SweepFolder, open_sweep_folder
from xmadapter.storage import local_path
from xmadapter.tracking import Champion, Registry

__all__ = ["Promotion", "promote"]

_PREDICTIONS = "predictions.parquet"


@dataclass(frozen=True)
class Promotion:
    """What a promotion did.

    Args:
        model: Name in the registry: data set and backbone.
        version: Of the champion now.
        before: Version of the champion until now; None for the first.
        difference: Accuracy of the new one over the old, paired over the same test images; None for the first.
    """

    model: str
    version: int
    before: int | None
    difference: Interval | None


def promote(sweep: str, bundle: str) -> Promotion:
    """Register a bundle of an evaluated sweep, and hand it the alias `champion`, if it beats the one that has it.

    Both are compared on the predictions that their final tests left: the same test images, each paired with itself, and the 95 %
    bootstrap interval of the difference must lie above 0. The test split is not opened.

    Args:
        sweep: Output folder of the sweep.
        bundle: Folder that pipelines.export wrote from it.

    Raises:
        ConfigError: The sweep has no final test, or the bundle is not one of its choices.
        FingerprintMismatch: The champion was tested on another split.
        NotBetter: The difference could be chance; the champion stays.
        TrackingError: MLflow does not answer.
    """
    folder, card = open_sweep_folder(sweep), load_bundle(bundle).card
    predictions = _predictions(folder, card, sweep)
    with Registry(
        folder.config.tracking, _model_name(folder.config.experiment, encoder_name(card.encoder))
    ) as registry:
        champion = registry.champion()
        if champion and champion.tags.get("bundle_sha256") == card.tensors_sha256:
            return Promotion(registry.name, champion.version, champion.version, None)
        difference = _difference(card, predictions, champion) if champion else None
        if difference is not None and champion is not None and not difference.low > 0:
            raise NotBetter(
                f"{bundle} is not shown to be better than {registry.name} v{champion.version}: {_points(difference)} over "
                f"{len(predictions)} test images; the champion stays"
            )
        with tempfile.TemporaryDirectory() as scratch:
            shutil.copytree(local_path(bundle), scratch, dirs_exist_ok=True)
            pq.write_table(predictions, Path(scratch) / _PREDICTIONS)
            tags = _tags(card)
            note = _note(card, champion, difference)
            uid = _parent(folder, card)
            version = registry.register_champion(folder.config.experiment, uid, Path(scratch), tags, note)
        return Promotion(registry.name, version, champion.version if champion else None, difference)


def _predictions(folder: SweepFolder, card: BundleCard, sweep: str) -> pa.Table:
    """Read what the bundle's own episode predicted on the test split, one row per image."""
    finals = [
        final
        for final in folder.finals(FinalResult)
        if (final.choice.method, final.choice.shots) == (card.method, card.shots)
    ]
    if not finals:
        raise ConfigError(
            f"{sweep} has no final test of {card.method} at {card.shots} shots; run pipelines.evaluate first"
        )
    # A card quotes the test of its own choice alone, so that another interval means another choice.
    if card.plan_fingerprint != _plan(folder) or card.test != finals[0].interval:
        raise ConfigError(f"the bundle was not exported from {sweep}; nothing was promoted; export it from there")
    own = [("method", "==", card.method), ("shots", "==", card.shots), ("seed", "==", card.seed)]
    return pq.read_table(folder.path / _PREDICTIONS, filters=own).sort_by("sample_id")


def _plan(folder: SweepFolder) -> str:
    return open_features(folder.config.features).manifest.plan_fingerprint


def _parent(folder: SweepFolder, card: BundleCard) -> str:
    studies = folder.studies(card.plan_fingerprint)
    return next(study.parent for study in studies if study.method.title == card.method)


def _difference(card: BundleCard, predictions: pa.Table, champion: Champion) -> Interval:
    theirs = pq.read_table(champion.files / _PREDICTIONS)
    if champion.tags.get("split_hash") != card.split_hash or theirs["sample_id"] != predictions["sample_id"]:
        raise FingerprintMismatch(
            f"champion v{champion.version} was tested on another split; the two cannot be compared; nothing was promoted; sweep "
            "and test both on one split, or promote under another experiment"
        )
    return image_interval((_right(predictions) - _right(theirs))[None])


def _right(predictions: pa.Table) -> np.ndarray:
    return (predictions["predicted"].to_numpy() == predictions["label"].to_numpy()).astype(np.float64)


def _tags(card: BundleCard) -> dict[str, str]:
    return {
        "bundle_sha256": card.tensors_sha256,
        "method": card.method,
        "shots": str(card.shots),
        "seed": str(card.seed),
        "protocol": card.protocol,
        "split_hash": card.split_hash,
        "feature_manifest": card.plan_fingerprint,
        "encoder_fingerprint": card.encoder.fingerprint,
        "classes": json.dumps(list(card.class_names))[:5000],
    }


def _note(card: BundleCard, champion: Champion | None, difference: Interval | None) -> str:
    text = f"{card.method} at {card.shots} shots, seed {card.seed}, protocol {card.protocol}."
    if champion is None or difference is None:
        return f"{text} The first champion."
    return f"{text} {_points(difference)} over v{champion.version}, paired over the same test images, 95 % bootstrap interval."


def _points(difference: Interval) -> str:
    return f"{points(difference.estimate)} points ({bounds(difference)})"


def _model_name(experiment: str, encoder: str) -> str:
    """Name it after data set and backbone, without the characters that the registry refuses."""
    return "".join(
        "-" if letter in "/:" or not letter.isprintable() else letter for letter in f"{experiment} {encoder}"
    )
