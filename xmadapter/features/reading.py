"""Reading a committed feature store, with every byte checked before a value is used."""

import os
from pathlib import Path

import numpy as np
import pyarrow as pa

from xmadapter.config import SelectionProtocol
from xmadapter.errors import DataError, IntegrityError, StoreIncomplete
from xmadapter.features.featureset import FeatureSet, Provenance, TestSet, TextBank, TuningData
from xmadapter.features.manifest import FeatureManifest, ShardInfo, latest_manifest
from xmadapter.features.schema import feature_matrix, image_schema, text_schema
from xmadapter.fingerprint import sha256_file
from xmadapter.storage import local_path

__all__ = ["FeatureStore", "open_features", "read_shard"]


def open_features(root: str) -> "FeatureStore":
    """Open a committed store; reads the manifest only.

    Raises:
        StoreIncomplete: There is no manifest; how many shards are finished.
        UnknownVersion: The manifest is newer than this program.
        IntegrityError: The manifest is damaged.
    """
    folder = local_path(root)
    _, manifest = latest_manifest(folder)
    if manifest is None:
        finished = len(list((folder / "records").glob("*.json"))) if folder.is_dir() else 0
        raise StoreIncomplete(
            f"{root} has no manifest; {finished} finished shards are kept; run pipelines.encode with this output"
        )
    return FeatureStore(folder, manifest)


class FeatureStore:
    """A committed store at one version; later commits do not change what it reads.

    Args:
        folder: Root of the store.
        manifest: The version to read.
    """

    def __init__(self, folder: Path, manifest: FeatureManifest) -> None:
        self.folder = folder
        self.manifest = manifest

    @property
    def provenance(self) -> Provenance:
        """Fingerprints of plan, encoder and split."""
        manifest = self.manifest
        return Provenance(manifest.plan_fingerprint, manifest.recipe.encoder.fingerprint, manifest.split_hash)

    def tuning(self, protocol: SelectionProtocol) -> TuningData:
        """Read what tuning may see: train and validation images and the text. Opens no test shard.

        Raises:
            DataError: The store has no validation images.
            IntegrityError: A shard is missing or its bytes changed.
        """
        validation = self._images("validation")
        if not len(validation):
            raise DataError(
                f"{self.folder} has no validation images, which protocol {protocol} chooses on; add a validation split"
            )
        return TuningData(
            protocol, self._images("train"), validation, self._texts(), self.manifest.logit_scale, self.provenance
        )

    def test(self) -> TestSet:
        """Read the test split. Called by the final evaluation and nowhere else; a test walks the callers."""
        return TestSet(self._images("test"), self.provenance)

    def _images(self, split: str) -> FeatureSet:
        manifest = self.manifest
        tables = [read_shard(self.folder, info, image_schema(manifest.dim)) for info in manifest.of(split)]
        views = 1 + manifest.recipe.views if split == "train" else 1
        table = pa.concat_tables(tables) if tables else image_schema(manifest.dim).empty_table()
        rows = table.slice(0).take(pa.array(np.arange(0, table.num_rows, views)))
        return FeatureSet(
            features=feature_matrix(table).reshape(-1, views, manifest.dim),
            norms=table["norm"].to_numpy().reshape(-1, views),
            labels=rows["label"].to_numpy().astype(np.int64),
            ids=tuple(rows["sample_id"].to_pylist()),
        )

    def _texts(self) -> TextBank:
        manifest = self.manifest
        table = pa.concat_tables(
            [read_shard(self.folder, info, text_schema(manifest.dim)) for info in manifest.of(None)]
        )
        names, prompts = manifest.recipe.class_names, len(manifest.recipe.prompts)
        return TextBank(feature_matrix(table).reshape(len(names), prompts, manifest.dim), names)


def read_shard(folder: Path, info: ShardInfo, schema: pa.Schema) -> pa.Table:
    """Map a shard after checking it: size, hash, exact schema, structure, rows, finite values, in this order.

    Raises:
        StoreIncomplete: The file is missing.
        IntegrityError: A check failed; the file is moved to quarantine and no value was used.
    """
    path = folder / "shards" / info.name
    if not path.is_file():
        raise StoreIncomplete(f"shard {path} is missing; the others are kept; run pipelines.encode again to restore it")
    if path.stat().st_size != info.size_bytes:
        raise _quarantined(path, f"has {path.stat().st_size} bytes, the manifest says {info.size_bytes}")
    if sha256_file(path) != info.sha256:
        raise _quarantined(path, "sha256 differs from the manifest")
    try:
        with pa.memory_map(str(path)) as source, pa.ipc.open_file(source) as reader:
            if not reader.schema.equals(schema, check_metadata=True):
                raise _quarantined(path, "has another schema")
            table = reader.read_all()
        table.validate(full=True)
    except pa.ArrowInvalid as error:
        raise _quarantined(path, f"is not a valid Arrow file ({error})") from error
    if table.num_rows != info.rows:
        raise _quarantined(path, f"has {table.num_rows} rows, the manifest says {info.rows}")
    if not np.isfinite(feature_matrix(table)).all():
        raise _quarantined(path, "holds values that are not finite")
    return table


def _quarantined(path: Path, reason: str) -> IntegrityError:
    quarantine = path.parent.parent / "quarantine"
    try:
        quarantine.mkdir(exist_ok=True)
        os.replace(path, quarantine / path.name)  # noqa: PTH105
    except OSError:
        return IntegrityError(f"shard {path} {reason}; the folder is read-only, so it stays there; restore the store")
    return IntegrityError(
        f"shard {path} {reason}; moved to {quarantine.name}/; run pipelines.encode again to restore just this shard"
    )
