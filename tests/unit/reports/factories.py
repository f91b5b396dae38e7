"""Makers of final results, trials and manifests, without a sweep."""

from collections.abc import Mapping, Sequence

from xmadapter.config import (
    AdapterConfig,
    ImageConfig,
    LinearProbeConfig,
    TinySpec,
    TipConfig,
    TipFConfig,
    XMAdapterConfig,
    ZeroShotConfig,
)
from xmadapter.evaluation import seed_interval, wilson_interval
from xmadapter.features import EncodeRecipe, FeatureManifest, ShardInfo, Skipped
from xmadapter.final import FinalResult
from xmadapter.reports import Report, build_report
from xmadapter.trial import TrialResult

TEST_ROWS = 1000
CLASS_NAMES = ("ankle boot", "bag", "coat")


def make_final(
    adapter: AdapterConfig,
    test: Sequence[float],
    *,
    shots: int = 4,
    method: str | None = None,
    protocol: str = "fewshot-val",
    validation: Sequence[float] | None = None,
    solved: Mapping[str, float] = {},
    trained_parameters: int = 1000,
    stored_bytes: int = 50_000,
    classes: int = len(CLASS_NAMES),
) -> FinalResult:
    """A final result with these test accuracies per seed; every other number follows from them."""
    choice = TrialResult(
        method=method or adapter.title,
        adapter=adapter,
        solved=dict(solved),
        shots=shots,
        seeds=tuple(range(1, len(test) + 1)),
        protocol=protocol,
        validation=tuple(validation or test),
        validation_rows=classes * min(shots, 4),
        solved_points=0,
        trained_parameters=trained_parameters,
        stored_bytes=stored_bytes,
        seconds=2.0,
    )
    return FinalResult(
        choice=choice,
        test=tuple(test),
        interval=seed_interval(test),
        wilson=tuple(wilson_interval(round(value * TEST_ROWS), TEST_ROWS) for value in test),
        class_accuracy=tuple((number + 0.5) / classes for number in range(classes)),
        test_rows=TEST_ROWS,
        seconds=1.5,
    )


def make_manifest(*, class_names: Sequence[str] = CLASS_NAMES, skipped: Sequence[Skipped] = ()) -> FeatureManifest:
    recipe = EncodeRecipe(
        encoder=TinySpec(weights_sha256="ab" * 32),
        image=ImageConfig(),
        class_names=tuple(class_names),
        prompts=("a photo of a {}.",),
        views=10,
        seed=0,
        rows_per_shard=256,
        batch_size=16,
    )
    splits = (("train", 11, 330), ("validation", 1, 24), ("test", 1, TEST_ROWS), (None, 1, len(class_names)))
    shards = tuple(
        ShardInfo(
            uid=f"{number:032x}",
            name=f"{number:016x}-{number:016x}.arrow",
            modality="image" if split else "text",
            split=split,
            views=views,
            rows=rows,
            size_bytes=1,
            sha256="cd" * 32,
            skipped=tuple(skipped) if number == 0 else (),
        )
        for number, (split, views, rows) in enumerate(splits)
    )
    return FeatureManifest(
        plan_fingerprint="ef" * 32,
        split_hash="12" * 32,
        recipe=recipe,
        dim=32,
        logit_scale=100.0,
        shards=shards,
    )


def make_sweep(shots: Sequence[int] = (1, 2, 4, 8, 16)) -> list[FinalResult]:
    """Five methods whose curves cross, with three seeds."""
    finals = []
    for place, count in enumerate(shots):
        curves = (
            (ZeroShotConfig(), 0.552, 0.0, 0, 20_000),
            (LinearProbeConfig(), 0.540 + 0.052 * place, 0.030, 12_800, 51_200),
            (TipConfig(), 0.575 + 0.027 * place, 0.012, 0, 90_000 * count),
            (TipFConfig(), 0.580 + 0.040 * place, 0.018, 5120 * count, 90_000 * count + 7000),
            (XMAdapterConfig(), 0.583 + 0.041 * place, 0.016, 5120 * count + 20_000, 98_000 * count),
        )
        for adapter, mean, spread, parameters, size in curves:
            test = [mean - spread, mean + 0.2 * spread, mean + 0.8 * spread]
            finals.append(
                make_final(
                    adapter,
                    test,
                    shots=count,
                    validation=[value + 0.01 for value in test],
                    solved={"sharpness": 5.25} if isinstance(adapter, TipConfig) else {},
                    trained_parameters=parameters,
                    stored_bytes=size,
                )
            )
    order = list(dict.fromkeys(final.choice.method for final in finals))
    return sorted(finals, key=lambda final: (order.index(final.choice.method), final.choice.shots))


def make_report(
    finals: Sequence[FinalResult],
    *,
    title: str = "fashion-mnist",
    class_names: Sequence[str] = CLASS_NAMES,
    skipped: Sequence[Skipped] = (),
    looks: int = 1,
    tracking_uri: str = "sqlite:///mlflow.db",
    trials: Sequence[TrialResult] | None = None,
) -> Report:
    return build_report(
        finals,
        [final.choice for final in finals] if trials is None else trials,
        title=title,
        manifest=make_manifest(class_names=class_names, skipped=skipped),
        config_fingerprint="34" * 32,
        looks=looks,
        failures=(("Diverged: loss [inf]", 2),),
        stopped=0,
        tracking_uri=tracking_uri,
        experiment_id="1",
    )
