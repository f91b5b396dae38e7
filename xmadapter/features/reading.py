"""Reading a committed feature store, with every byte checked before a value is used."""

import re
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Literal

import numpy as np
import pyarrow as pa

from xmadapter.config import Classes, SelectionProtocol
from xmadapter.errors import DataError, IntegrityError, ResourceError, StoreIncomplete
from xmadapter.features.captioned import CaptionedImages, FeatureSpace, RetrievalData, without_captions
from xmadapter.features.featureset import FeatureSet, Provenance, TestSet, TextBank, TuningData
from xmadapter.features.manifest import FeatureManifest, ShardInfo, latest_manifest, manifest_versions, read_manifest
from xmadapter.features.planfile import load_plan
from xmadapter.features.schema import feature_matrix, image_schema, text_schema
from xmadapter.fingerprint import sha256_file
from xmadapter.storage import fetch, join, list_names, move

__all__ = ["FeatureStore", "open_features", "read_shard"]

_CHOSEN_ON: Mapping[SelectionProtocol, str | None] = {
    "fewshot-val": "validation",
    "full-val": "validation",
    "no-val": None,
    "oracle": "test",
}
"""The split whose labels choose, beside the support."""
_FRAME = re.compile(r"#frame=\d+&of=\d+$")
"""How a media URI names a frame of a video."""


def open_features(root: str, version: int | None = None) -> "FeatureStore":
    """Open a committed store; reads the manifest only.

    Args:
        root: Folder or bucket prefix.
        version: Which commit; None for the newest.

    Raises:
        StoreIncomplete: There is no manifest; how many shards are finished.
        UnknownVersion: The manifest has another format than this program reads.
        IntegrityError: The manifest is damaged. An earlier version is not used instead unless it is asked for.
    """
    if version is not None:
        if version not in (there := manifest_versions(root)):
            raise StoreIncomplete(f"{root} has no version {version}; it has {', '.join(map(str, there)) or 'none'}")
        return FeatureStore(root, version, read_manifest(root, version))
    latest, manifest = latest_manifest(root)
    if manifest is None:
        finished = len(list_names(join(root, "records")))
        raise StoreIncomplete(
            f"{root} has no manifest; {finished} finished shards are kept; run pipelines.encode with this output"
        )
    return FeatureStore(root, latest, manifest)


class FeatureStore:
    """A committed store at one version; later commits do not change what it reads.

    Args:
        root: Folder or bucket prefix.
        version: Which commit.
        manifest: What it says.
    """

    def __init__(self, root: str, version: int, manifest: FeatureManifest) -> None:
        self.root = root
        self.version = version
        self.manifest = manifest

    @property
    def provenance(self) -> Provenance:
        """Fingerprints of plan, encoder and split."""
        manifest = self.manifest
        return Provenance(manifest.plan_fingerprint, manifest.recipe.encoder.fingerprint, manifest.split_hash)

    def tuning(self, protocol: SelectionProtocol, classes: Classes = "all") -> TuningData:
        """Read what tuning may see: train and validation images and the text. Opens no test shard, but for `oracle`.

        Raises:
            DataError: The store has no images to choose on.
            IntegrityError: A shard is missing or its bytes changed.
        """
        chosen_on = _CHOSEN_ON[protocol]
        validation = self._images(chosen_on)
        if chosen_on and not len(validation):
            raise DataError(
                f"{self.root} has no {chosen_on} images, which protocol {protocol} chooses on; add some, "
                "or take the protocol no-val"
            )
        data = TuningData(
            protocol, self._images("train"), validation, self.texts(), self.manifest.logit_scale, self.provenance
        )
        return data.base if classes == "base" else data

    def test(self) -> TestSet:
        """Read the test split. Called by the final evaluation and nowhere else; a test walks the callers."""
        return TestSet(self._images("test"), self.provenance)

    def captioned(self, split: Literal["train", "validation"]) -> CaptionedImages:
        """Read images and captions of a split that may be trained or tuned on; an image without a caption is left out.

        Raises:
            DataError: The store holds classes, not captions; or the split has no captioned image.
            IntegrityError: A shard is missing or its bytes changed.
        """
        return self._captioned(split)

    def retrieval(self) -> RetrievalData:
        """Read what a sweep over captioned images may see: training and validation. Opens no test shard.

        Raises:
            DataError: A split has no captioned image.
            IntegrityError: A shard is missing or its bytes changed.
        """
        train, validation = self._captioned("train"), self._captioned("validation")
        return RetrievalData(
            train,
            validation,
            self.media({*train.sample_ids, *validation.sample_ids}),
            self.space,
            self.provenance,
        )

    @property
    def space(self) -> FeatureSpace:
        """What its features are."""
        manifest, recipe = self.manifest, self.manifest.recipe
        return FeatureSpace(
            encoder=recipe.encoder, image=recipe.image, dim=manifest.dim, logit_scale=manifest.logit_scale
        )

    def media(self, sample_ids: Collection[str]) -> dict[str, str]:
        """Find where the pixels of these images are, by id; nothing of them is opened."""
        plan = load_plan(self.root, self.manifest.recipe, self.manifest.plan_fingerprint)
        images = (shard for shard in plan.shards if shard.modality == "image")
        return {one.sample_id: one.media for shard in images for one in shard.samples if one.sample_id in sample_ids}

    def of_videos(self, sample_ids: Collection[str]) -> bool:
        """Say whether any of these rows is a frame of a video."""
        return any(_FRAME.search(media) for media in self.media(sample_ids).values())

    def captioned_test(self) -> CaptionedImages:
        """Read images and captions of the test split, as `captioned`; for the final evaluation alone."""
        return self._captioned("test")

    def read(self, info: ShardInfo) -> pa.Table:
        """Map one shard, as `read_shard`."""
        schema = image_schema if info.modality == "image" else text_schema
        return read_shard(self.root, info, schema(self.manifest.dim))

    def _images(self, split: str | None) -> FeatureSet:
        """Read a split; None has no image."""
        manifest = self.manifest
        tables = [self.read(info) for info in manifest.of(split)] if split else []
        views = 1 + manifest.recipe.views if split == "train" else 1
        table = pa.concat_tables(tables) if tables else image_schema(manifest.dim).empty_table()
        firsts = table.select(["sample_id", "label"]).take(pa.array(np.arange(0, table.num_rows, views)))
        ids = np.array(firsts["sample_id"].to_pylist(), dtype=object)
        features, norms = feature_matrix(table).reshape(-1, views, manifest.dim), table["norm"].to_numpy()
        norms, labels = norms.reshape(-1, views), firsts["label"].to_numpy().astype(np.int64)
        # In the order of ids, whether the split was encoded at once or grew.
        order = np.argsort(ids, kind="stable")
        if not (order == np.arange(len(order))).all():
            features, norms, labels, ids = features[order], norms[order], labels[order], ids[order]
        return FeatureSet(features, norms, labels, tuple(ids))

    def _captioned(self, split: str) -> CaptionedImages:
        shards = self.manifest.of(split, "text")
        if not shards:
            raise DataError(f"{self.root} has no captions in its {split} split; encode a data set that has some")
        images, table = self._images(split), pa.concat_tables([self.read(info) for info in shards])
        names = [name.rpartition("/")[0] for name in table["sample_id"].to_pylist()]
        items = without_captions(images.features[:, 0], images.ids, videos=self.of_videos(images.ids[:1]))
        if items.frames:
            names = [name.rpartition("/")[0] for name in names]  # a video's captions stand with its first frame
        place = {name: row for row, name in enumerate(items.image_ids)}
        parents = np.array([place.get(name, -1) for name in names])
        kept = np.flatnonzero(parents >= 0)  # an image that could not be read has captions, but no features
        if not len(kept):
            raise DataError(f"no image in the {split} split of {self.root} has a caption")
        texts = table["text"].to_pylist()
        captioned = replace(
            items,
            text=feature_matrix(table)[kept],
            texts=tuple(texts[row] for row in kept),
            image_of_text=parents[kept],
        )
        return captioned.take(np.unique(parents[kept]))

    def texts(self) -> TextBank:
        """Read the text features of all classes."""
        manifest = self.manifest
        table = pa.concat_tables([self.read(info) for info in manifest.of(None)])
        names, prompts = manifest.recipe.class_names, len(manifest.recipe.prompts)
        return TextBank(feature_matrix(table).reshape(len(names), prompts, manifest.dim), names)


def read_shard(root: str, info: ShardInfo, schema: pa.Schema) -> pa.Table:
    """Map a shard after checking it: size, hash, exact schema, structure, rows, finite values, in this order.

    Raises:
        StoreIncomplete: The file is missing.
        IntegrityError: A check failed; the file is moved to quarantine and no value was used.
    """
    uri = join(root, "shards", info.name)
    try:
        path = fetch(uri)
        size = path.stat().st_size
    except FileNotFoundError as error:
        raise StoreIncomplete(
            f"shard {uri} is missing; the others are kept; run pipelines.encode again to restore it"
        ) from error
    if size != info.size_bytes:
        raise _quarantined(root, info, f"has {size} bytes, the manifest says {info.size_bytes}")
    if sha256_file(path) != info.sha256:
        raise _quarantined(root, info, "sha256 differs from the manifest")
    try:
        with pa.memory_map(str(path)) as source, pa.ipc.open_file(source) as reader:
            if not reader.schema.equals(schema, check_metadata=True):
                raise _quarantined(root, info, "has another schema")
            table = reader.read_all()
        table.validate(full=True)
    except pa.ArrowInvalid as error:
        raise _quarantined(root, info, f"is not a valid Arrow file ({error})") from error
    if table.num_rows != info.rows:
        raise _quarantined(root, info, f"has {table.num_rows} rows, the manifest says {info.rows}")
    if not np.isfinite(feature_matrix(table)).all():
        raise _quarantined(root, info, "holds values that are not finite")
    return table


def _quarantined(root: str, info: ShardInfo, reason: str) -> IntegrityError:
    uri = join(root, "shards", info.name)
    try:
        move(uri, join(root, "quarantine", info.name))
    except (OSError, ResourceError):
        return IntegrityError(f"shard {uri} {reason}; the folder is read-only, so it stays there; restore the store")
    return IntegrityError(
        f"shard {uri} {reason}; moved to quarantine/; run pipelines.encode again to restore just this shard"
    )
