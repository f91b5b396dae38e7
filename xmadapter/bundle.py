"""AdapterBundle: one adapter as a folder of files that are harmless to open.

::

    BUNDLE/bundle.json            what it is, and the hash of the tensors
    BUNDLE/adapter.safetensors    the adapter's state, and a probe: features with the logits they must give

No pickle, nothing to run. The probe is scored again on load, so a bundle that computes something else is refused.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import torch
from pydantic import Field
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from xmadapter.adapters import FeatureAdapter, SolvableAdapter, restore_adapter
from xmadapter.config import AdapterConfig, EncoderSpec, Frozen, ImageConfig
from xmadapter.errors import ConfigError, IntegrityError
from xmadapter.evaluation import Interval
from xmadapter.features import FeatureManifest, TuningData
from xmadapter.sealed import seal, unseal
from xmadapter.storage import local_path, make_folder_whole
from xmadapter.trial import TrialResult, refit

__all__ = ["AdapterBundle", "BundleCard", "export_bundle", "load_bundle"]

_PROBE_ROWS = 8
_TOLERANCE = 1e-3
"""Largest logit difference of the probe: logits are tens, and another machine sums in another order."""


class BundleCard(Frozen):
    """What a bundle says of itself."""

    method: str
    adapter: AdapterConfig
    encoder: EncoderSpec
    image: ImageConfig
    class_names: tuple[str, ...]
    prompts: tuple[str, ...]
    shots: int
    seed: int
    protocol: str
    validation: float | None = Field(description="Accuracy of this episode on validation images, if there were any.")
    test: Interval | None = Field(
        None, description="Of the method at these shots, over all seeds; None if never tested."
    )
    plan_fingerprint: str
    split_hash: str
    tensors_sha256: str


@dataclass(frozen=True)
class AdapterBundle:
    """A loaded bundle, checked: hashes, shapes, and the probe's logits."""

    card: BundleCard
    adapter: FeatureAdapter


def export_bundle(
    data: TuningData, manifest: FeatureManifest, choice: TrialResult, *, seed: int, test: Interval | None, output: str
) -> Path:
    """Refit a choice on one episode and write it as a bundle; the folder appears whole or not at all.

    Args:
        data: What the choice was tuned on.
        manifest: Of the same store.
        choice: Method, shots and parameters.
        seed: Which of the choice's episodes.
        test: Interval to quote, if the choice was tested.
        output: Folder; must not exist.

    Raises:
        ConfigError: The choice has no such seed or saw the test split, or the folder exists.
        ResourceError: It cannot be written.
    """
    if choice.protocol == "oracle":
        raise ConfigError("these hyperparameters were chosen on the test split; sweep with another protocol to export")
    if seed not in choice.seeds:
        raise ConfigError(f"{choice.method} was swept over seeds {list(choice.seeds)}; seed {seed} is none of them")
    target = local_path(output)
    if target.exists():
        raise ConfigError(f"{output} exists and was kept; remove it, or choose another output")
    adapter = refit(data, choice, seeds=(seed,))
    probe = torch.from_numpy(data.train.features[:_PROBE_ROWS, 0].copy())
    with torch.no_grad():
        state = {f"state.{name}": tensor.contiguous().clone() for name, tensor in adapter.state_dict().items()}
        tensors = save({**state, "probe.image": probe, "probe.logits": adapter(probe[None])[0].contiguous()})
    card = BundleCard(
        method=choice.method,
        adapter=adapter.config if isinstance(adapter, SolvableAdapter) else choice.adapter,
        encoder=manifest.recipe.encoder,
        image=manifest.recipe.image,
        class_names=manifest.recipe.class_names,
        prompts=manifest.recipe.prompts,
        shots=choice.shots,
        seed=seed,
        protocol=choice.protocol,
        validation=choice.validation[choice.seeds.index(seed)] if choice.validation else None,
        test=test,
        plan_fingerprint=manifest.plan_fingerprint,
        split_hash=manifest.split_hash,
        tensors_sha256=hashlib.sha256(tensors).hexdigest(),
    )
    make_folder_whole(target, {"adapter.safetensors": tensors, "bundle.json": seal(card)})
    return target


def load_bundle(path: str) -> AdapterBundle:
    """Read and check a bundle.

    Raises:
        ConfigError: There is no bundle.
        UnknownVersion: It was written by a newer format.
        IntegrityError: A byte changed, or the adapter does not compute what it computed when it was exported.
    """
    folder = local_path(path)
    if not (folder / "bundle.json").is_file():
        if (folder / "retrieval.json").is_file():
            raise ConfigError(
                f"{path} finds images and captions and knows no classes; use xmadapter search {path} QUERY"
            )
        raise ConfigError(f"{path} holds no bundle; make one with pipelines.export")
    card = unseal(BundleCard, folder / "bundle.json", advice="export the bundle again")
    try:
        data = (folder / "adapter.safetensors").read_bytes()
    except OSError as error:
        raise IntegrityError(f"{path}: adapter.safetensors is missing; export the bundle again") from error
    if hashlib.sha256(data).hexdigest() != card.tensors_sha256:
        raise IntegrityError(
            f"{path}: adapter.safetensors has other bytes than bundle.json says; export the bundle again"
        )
    try:
        tensors = load(data)
        adapter = restore_adapter(card.adapter, _part(tensors, "state.")).eval()
        with torch.no_grad():
            logits = adapter(tensors["probe.image"][None])[0]
        drift = float((logits - tensors["probe.logits"]).abs().max())
    except (SafetensorError, KeyError, RuntimeError) as error:
        raise IntegrityError(
            f"{path}: the tensors do not fit the adapter ({error}); export the bundle again"
        ) from error
    if not drift <= _TOLERANCE or logits.shape[-1] != len(card.class_names):
        raise IntegrityError(
            f"{path}: the probe's logits differ by {drift:.3g}; this build computes something else than the exporter"
        )
    return AdapterBundle(card, adapter)


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
