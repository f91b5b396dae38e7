"""What the ledger says of a sweep, and how it reads in MLflow: names, parameters, metrics, tags and notes.

Experiment = data set, parent run = method, child run = trial. Parent metrics have the shot count as step, so comparing parents
draws accuracy over shots. MLflow shows the metrics of a prefix in a section, sections in alphabetical order: accuracy comes first.
"""

import json
import subprocess
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

from pydantic import JsonValue

from xmadapter.config import EncoderSpec, FinetuneConfig, Frozen, SweepConfig
from xmadapter.features import FeatureManifest
from xmadapter.final import FinalResult
from xmadapter.ledger import Entry
from xmadapter.retrieval import KS, FinetuneResult, RetrievalFinal, mean_recall
from xmadapter.study import FinishedTrial, Study
from xmadapter.trial import TrialResult

__all__ = ["chosen_entry", "encoder_name", "final_entry", "method_entry", "recall_entry", "trial_entry"]

_MEASURE = {"classification": "accuracy", "retrieval": "recall"}
"""What scores are called, by task: the first part of their names in MLflow."""


def method_entry(
    study: Study, config: SweepConfig | FinetuneConfig, manifest: FeatureManifest, *, job: str | None = None
) -> Entry:
    """Open the parent run of a method; `job` is the submission id of the Ray job that runs it."""
    encoder = manifest.recipe.encoder
    tags: dict[str, JsonValue] = {
        "method": study.method.title,
        "dataset": config.experiment,
        "encoder": encoder_name(encoder),
        "encoder_fingerprint": encoder.fingerprint,
        "protocol": _protocol(config),
        "split_hash": manifest.split_hash,
        "feature_manifest": manifest.plan_fingerprint,
        "config_hash": config.fingerprint,
        "git_commit": _git_commit(),
        "level": "method",
        **({"ray_job": job} if job else {}),
    }
    params = {
        "features": config.features,
        "protocol": _protocol(config),
        "shots": " ".join(map(str, config.shots)),
        "seeds": " ".join(map(str, config.seeds)),
        "trials_per_shot_count": study.draws,
    }
    body: dict[str, JsonValue] = {
        "name": study.method.title,
        "tags": tags,
        "params": params,
        "dataset": _dataset(config, manifest),
        "searched": list(study.method.search_space),
        "measure": _MEASURE[study.task],
        "config": config.model_dump(mode="json"),
    }
    return Entry("method", study.parent, body)


def _protocol(config: SweepConfig | FinetuneConfig) -> str:
    """Name what was chosen on; captioned images have no shots to draw validation images by."""
    return config.protocol if isinstance(config, SweepConfig) else "full-val"


def encoder_name(encoder: EncoderSpec) -> str:
    """Name a backbone: the open_clip model, or the kind where it has no models."""
    return getattr(encoder, "model", None) or encoder.kind


def _dataset(config: SweepConfig | FinetuneConfig, manifest: FeatureManifest) -> dict[str, JsonValue]:
    """Describe the data as MLflow lists it: the split is its digest, since two splits of the same images are two data sets."""
    rows = {
        split: sum(shard.rows // shard.views for shard in manifest.of(split))
        for split in ("train", "validation", "test")
    }
    return {
        "name": config.experiment[:500],
        "digest": manifest.split_hash[:36],
        "source_type": "xmadapter features",
        "source": json.dumps({"uri": config.features, "manifest": manifest.plan_fingerprint}),
        "profile": json.dumps({"classes": len(manifest.recipe.class_names), **rows}),
    }


def trial_entry(study: Study, number: int, trial: FinishedTrial, failure: str | None = None) -> Entry:
    """Record one finished trial: what it found, where it was stopped, or why it failed."""
    result, drawn = trial.result, trial.drawn
    tags = {"method": study.method.title, "shots": study.shots, "level": "trial"}
    if failure:
        tags["failure"] = failure
    elif result is None:
        tags["stopped_after_epoch"] = max(trial.rungs)
    body: dict[str, JsonValue] = {
        "study": study.uid,
        "parent": study.parent,
        "number": number,
        "drawn": dict(drawn),
        "name": f"{study.method.title} {study.shots}-shot #{number}",
        "ended_ms": (ended := int(time.time() * 1000)),
        "started_ms": ended - int(1000 * (result.seconds if result else 0)),
        "tags": tags,
        "params": {"shots": study.shots, **drawn},
        "metrics": {},
        "rungs": {str(epoch): value for epoch, value in trial.rungs.items()},
        "measure": _MEASURE[study.task],
        "result": None,
    }
    if result is not None:
        body["params"] = {"shots": study.shots, **_flat(result.adapter), **_solved(result)}
        body["metrics"] = {
            **_scores(result),
            **{f"seeds/validation_{seed}": value for seed, value in _by_seed(result).items()},
            "cost/seconds": result.seconds,
            "cost/trained_parameters": result.trained_parameters,
            "cost/stored_kb": result.stored_bytes / 1000,
            "cost/latency_us": result.latency_us,
        }
        body["result"] = result.model_dump(mode="json")
    return Entry("trial", f"{study.uid}-{number}", body)


def chosen_entry(best: Iterable[TrialResult] | Iterable[FinetuneResult], studies: Iterable[Study]) -> Entry:
    """Put the accuracies that chose on the parents, shot count by shot count."""
    parents = {study.method.title: study.parent for study in studies}
    metrics: dict[str, dict[str, dict[str, float]]] = defaultdict(dict)
    for result in best:
        metrics[parents[result.method]][str(result.shots)] = _scores(result)
    return Entry("chosen", _stamp(), {"metrics": metrics})


def _scores(result: TrialResult | FinetuneResult) -> dict[str, float]:
    """Name what chooses, and what was found on validation images where there are any."""
    if isinstance(result, FinetuneResult):
        count = len(result.validation)
        first = sum(one.text_to_image.recall[1].estimate for one in result.validation) / (100 * count)
        return {"recall/selection": result.score, "recall/validation_text_to_image_1": first}
    validation = result.mean_validation
    return {
        "accuracy/selection": result.score,
        **({} if validation is None else {"accuracy/validation": validation}),
    }


def _solved(result: TrialResult | FinetuneResult) -> dict[str, JsonValue]:
    return _prefixed("solved", result.solved) if isinstance(result, TrialResult) else {}


def _by_seed(result: TrialResult | FinetuneResult) -> dict[int, float]:
    """Accuracy or mean recall on validation images, by seed."""
    if isinstance(result, FinetuneResult):
        return dict(zip(result.seeds, map(mean_recall, result.validation), strict=True))
    return dict(zip(result.seeds, result.validation, strict=bool(result.validation)))


def final_entry(results: Iterable[FinalResult], studies: Iterable[Study], *, looks: int) -> Entry:
    """Put the test accuracy on the parents, with its interval, shot count by shot count, and a note that reads well."""
    parents = {study.method.title: study.parent for study in studies}
    metrics: dict[str, dict[str, dict[str, float]]] = defaultdict(dict)
    by_parent: dict[str, list[FinalResult]] = defaultdict(list)
    for result in results:
        parent = parents[result.choice.method]
        by_parent[parent].append(result)
        metrics[parent][str(result.choice.shots)] = {
            "accuracy/test": result.interval.estimate,
            "interval/test_low": result.interval.low,
            "interval/test_high": result.interval.high,
            "cost/trained_parameters": float(result.choice.trained_parameters),
            "cost/stored_kb": result.choice.stored_bytes / 1000,
            "cost/refit_seconds": result.seconds,
            **{f"elsewhere/{other.name}": other.interval.estimate for other in result.elsewhere},
        }
    notes = {parent: _note(group, looks) for parent, group in by_parent.items()}
    everything = [result.model_dump(mode="json") for group in by_parent.values() for result in group]
    return Entry("final", _stamp(), {"metrics": metrics, "notes": notes, "results": everything, "looks": looks})


def recall_entry(results: Iterable[RetrievalFinal], studies: Iterable[Study], *, looks: int) -> Entry:
    """Put the test recalls on the parents, in [0, 1] with their interval, as `final_entry` does accuracies."""
    parents = {study.method.title: study.parent for study in studies}
    metrics: dict[str, dict[str, dict[str, float]]] = defaultdict(dict)
    by_parent: dict[str, list[RetrievalFinal]] = defaultdict(list)
    for result in results:
        parent = parents[result.choice.method]
        by_parent[parent].append(result)
        mean = result.mean_recall
        metrics[parent][str(result.choice.shots)] = {
            "recall/test": mean.estimate / 100,
            **{f"recall/text_to_image_{k}": result.recall("text_to_image", k).estimate / 100 for k in KS},
            **{f"recall/image_to_text_{k}": result.recall("image_to_text", k).estimate / 100 for k in KS},
            "interval/test_low": mean.low / 100,
            "interval/test_high": mean.high / 100,
            "cost/trained_parameters": float(result.choice.trained_parameters),
            "cost/stored_kb": result.choice.stored_bytes / 1000,
        }
    notes = {parent: _recall_note(group, looks) for parent, group in by_parent.items()}
    everything = [result.model_dump(mode="json") for group in by_parent.values() for result in group]
    return Entry("final", _stamp(), {"metrics": metrics, "notes": notes, "results": everything, "looks": looks})


def _recall_note(results: list[RetrievalFinal], looks: int) -> str:
    first = results[0]
    rows = "\n".join(
        f"| {one.choice.shots} | "
        + " | ".join(f"{one.recall(side, k).estimate:.1f}" for side in ("text_to_image", "image_to_text") for k in KS)
        + " |"
        for one in sorted(results, key=lambda one: one.choice.shots)
    )
    return (
        f"### {first.choice.method}\n\n| training images | T2I R@1 | R@5 | R@10 | I2T R@1 | R@5 | R@10 |\n"
        f"|--:|--:|--:|--:|--:|--:|--:|\n{rows}\n\nPercent, mean of {len(first.choice.seeds)} seeds; {first.images} test images, "
        f"{first.texts} captions. The test split was looked at {_times(looks)} in this sweep."
    )


def _times(looks: int) -> str:
    return f"{looks} time{'s' if looks > 1 else ''}"


def _note(results: list[FinalResult], looks: int) -> str:
    first = results[0].choice
    rows = "\n".join(
        f"| {result.choice.shots} | {result.choice.score:.3f} | {result.interval.estimate:.3f} "
        f"| {result.interval.low:.3f} to {result.interval.high:.3f} |"
        for result in sorted(results, key=lambda result: result.choice.shots)
    )
    return (
        f"### {first.method}\n\n| shots | selection | test | 95 % interval |\n|--:|--:|--:|:-:|\n{rows}\n\n"
        f"Protocol **{first.protocol}**, {len(first.seeds)} seeds, {results[0].test_rows} test images; interval of the mean over "
        f"seeds by Student's t. The test split was looked at {_times(looks)} in this sweep."
    )


def _flat(config: Frozen) -> dict[str, JsonValue]:
    """Flatten a config to dotted names."""
    flat: dict[str, JsonValue] = {}
    for name, value in config.model_dump(mode="json").items():
        flat |= _prefixed(name, value) if isinstance(value, dict) else {name: value}
    return flat


def _prefixed(prefix: str, values: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    return {f"{prefix}.{name}": value for name, value in values.items()}


def _stamp() -> str:
    return datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%f")


def _git_commit() -> str:
    """Commit of the working folder, with `+changes` when files differ from it; `unknown` outside a repository."""
    try:
        command = ["git", "describe", "--always", "--abbrev=40", "--dirty=+changes", "--exclude=*"]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return "unknown"
