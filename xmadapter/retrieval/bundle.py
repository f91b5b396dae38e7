"""RetrievalBundle: one trained method for retrieval as a folder of files that are harmless to open.

::

    BUNDLE/retrieval.json         what it is, and the hash of the tensors
    BUNDLE/adapter.safetensors    the weights, and a probe: captions with the features they must get
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from xmadapter.config import Frozen, RetrievalConfig
from xmadapter.errors import ConfigError, IntegrityError
from xmadapter.evaluation import Interval
from xmadapter.features import CaptionedImages, FeatureManifest, FeatureSpace, RetrievalData
from xmadapter.retrieval.model import RetrievalModel, retrieval_model
from xmadapter.retrieval.sides import all_rows
from xmadapter.retrieval.trial import FinetuneResult, mean_recall, trained
from xmadapter.sealed import seal, unseal
from xmadapter.storage import local_path, make_folder_whole

__all__ = ["RetrievalBundle", "RetrievalCard", "export_retrieval", "is_retrieval_bundle", "load_retrieval_bundle"]

_CARD = "retrieval.json"
_PROBE_ROWS = 8
_TOLERANCE = 1e-3
"""Largest difference of a normalised feature of the probe: another machine sums in another order."""


class RetrievalCard(Frozen):
    """What a bundle says of itself."""

    method: str
    adapter: RetrievalConfig
    space: FeatureSpace
    features: str = Field(description="The store it was trained on, which is what is searched unless another is named.")
    images: int = Field(description="Training images.")
    seed: int
    validation: float = Field(description="Mean recall of this seed on the validation split, in [0, 1].")
    test: Interval | None = Field(
        default=None,
        description="Text-to-image recall@1 of the method over all seeds, in percent; None if never tested.",
    )
    plan_fingerprint: str
    split_hash: str
    probe: tuple[str, ...] = Field(description="Captions whose features are checked on load.")
    tensors_sha256: str


@dataclass(frozen=True)
class RetrievalBundle:
    """A loaded bundle whose bytes are those of its card; `model` checks what it computes."""

    card: RetrievalCard
    tensors: dict[str, Tensor]

    @contextmanager
    def model(self) -> Iterator[RetrievalModel]:
        """Put the weights into the encoder, for the length of the `with`.

        Raises:
            FingerprintMismatch: The encoder found here has other weights.
            IntegrityError: The probe's captions get other features than they got when it was exported.
        """
        with retrieval_model(self.card.adapter, self.card.space, seed=self.card.seed) as model:
            model.weights.load(_part(self.tensors, "state."))
            found = _probe(model, self.card.probe, self.tensors["probe.frozen"].numpy())
            drift = float((found - self.tensors["probe.text"]).abs().max())
            if not drift <= _TOLERANCE:
                raise IntegrityError(
                    f"the probe's features differ by {drift:.3g}; this build computes something else than the exporter"
                )
            yield model


def export_retrieval(  # noqa: PLR0913  one argument per fact; the caller has each in another place
    data: RetrievalData,
    manifest: FeatureManifest,
    choice: FinetuneResult,
    *,
    seed: int,
    features: str,
    test: Interval | None,
    states: str | None,
    output: str,
) -> Path:
    """Train a choice on one seed, or take what its trial left, and write it; the folder appears whole or not at all.

    Args:
        data: What the choice was tuned on.
        manifest: Of the same store.
        choice: Method, training images and parameters.
        seed: One of the choice's.
        features: Where the store is.
        test: Interval to quote, if the choice was tested.
        states: Folder of training states.
        output: Folder; must not exist.

    Raises:
        ConfigError: The choice has no such seed, or the folder exists.
        ResourceError: It cannot be written.
    """
    if seed not in choice.seeds:
        raise ConfigError(f"{choice.method} was swept over seeds {list(choice.seeds)}; seed {seed} is none of them")
    target = local_path(output)
    if target.exists():
        raise ConfigError(f"{output} exists and was kept; remove it, or choose another output")
    texts, frozen = data.train.texts[:_PROBE_ROWS], data.train.text[:_PROBE_ROWS].copy()
    with trained(data, choice.trial(states), seed=seed) as model:
        state = model.weights.state()
        probe = {"probe.frozen": torch.from_numpy(frozen), "probe.text": _probe(model, texts, frozen)}
    tensors = save({**{f"state.{name}": one.contiguous() for name, one in state.items()}, **probe})
    card = RetrievalCard(
        method=choice.method,
        adapter=choice.adapter,
        space=data.space,
        features=features,
        images=choice.shots,
        seed=seed,
        validation=mean_recall(choice.validation[choice.seeds.index(seed)]),
        test=test,
        plan_fingerprint=manifest.plan_fingerprint,
        split_hash=manifest.split_hash,
        probe=texts,
        tensors_sha256=hashlib.sha256(tensors).hexdigest(),
    )
    make_folder_whole(target, {"adapter.safetensors": tensors, _CARD: seal(card)})
    return target


def is_retrieval_bundle(path: str) -> bool:
    """Whether a folder holds such a bundle, and not a feature store, for instance."""
    return "://" not in path and (local_path(path) / _CARD).is_file()


def load_retrieval_bundle(path: str) -> RetrievalBundle:
    """Read a bundle and check its bytes.

    Raises:
        ConfigError: There is none.
        UnknownVersion: It was written by a newer format.
        IntegrityError: A byte changed.
    """
    folder = local_path(path)
    if not is_retrieval_bundle(path):
        raise ConfigError(f"{path} holds no retrieval bundle; make one with pipelines.export")
    card = unseal(RetrievalCard, folder / _CARD, advice="export the bundle again")
    try:
        data = (folder / "adapter.safetensors").read_bytes()
        if hashlib.sha256(data).hexdigest() != card.tensors_sha256:
            raise IntegrityError(
                f"{path}: adapter.safetensors has other bytes than {_CARD} says; export the bundle again"
            )
        return RetrievalBundle(card, load(data))
    except (OSError, SafetensorError) as error:
        raise IntegrityError(f"{path}: adapter.safetensors is missing or damaged; export the bundle again") from error


def _probe(
    model: RetrievalModel, texts: tuple[str, ...], frozen: Float[np.ndarray, "texts dim"]
) -> Float[Tensor, "texts dim"]:
    data = CaptionedImages(np.zeros((0, frozen.shape[1]), np.float32), (), frozen, texts, np.zeros(0, np.int64))
    return F.normalize(all_rows(model.sides(data, {}).text, len(texts)), dim=-1)


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
