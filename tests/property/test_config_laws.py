"""What is dumped is loaded."""

import tempfile
from pathlib import Path

import yaml
from hypothesis import given
from hypothesis import strategies as st

from tests.factories import law
from xmadapter.config import (
    APETConfig,
    ClapConfig,
    ClipAdapterConfig,
    EncodeConfig,
    FitConfig,
    LinearProbeConfig,
    LpPlusPlusConfig,
    MetaConfig,
    MethodConfig,
    MultiModalConfig,
    SweepConfig,
    TaskResConfig,
    TipConfig,
    TipFConfig,
    XMAdapterConfig,
    ZeroShotConfig,
    load,
)

_TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
_POSITIVE = st.floats(1e-6, 50, allow_nan=False)
_FIT = st.builds(
    FitConfig,
    epochs=st.integers(1, 100),
    learning_rate=st.floats(1e-8, 100, exclude_min=True),
    weight_decay=st.floats(0, 10),
    batch_size=st.integers(1, 999),
)
_VOTES = {"cache_weight": st.floats(0, 100), "sharpness": _POSITIVE}
_ADAPTERS = st.one_of(
    st.just(ZeroShotConfig()),
    st.builds(LinearProbeConfig, fit=_FIT),
    st.builds(LpPlusPlusConfig, epochs=st.integers(1, 999)),
    st.builds(ClipAdapterConfig, fit=_FIT, ratio=st.floats(0, 1), reduction=st.integers(1, 9)),
    st.builds(TaskResConfig, fit=_FIT, residual_scale=st.floats(0, 9)),
    st.builds(ClapConfig, fit=_FIT, penalty=st.floats(0, 9)),
    st.builds(MultiModalConfig, fit=_FIT, mask=st.sampled_from(["bias1", "cross", "none"]), blend=st.floats(0, 1)),
    st.builds(TipConfig, **_VOTES),
    st.builds(TipFConfig, fit=_FIT, **_VOTES),
    st.builds(APETConfig, fit=_FIT, **_VOTES, channel_share=st.floats(0.01, 1), surprise_weight=st.floats(0, 9)),
    st.builds(MetaConfig, fit=_FIT),
    st.builds(
        XMAdapterConfig,
        fit=_FIT,
        **_VOTES,
        text_sharpness=_POSITIVE,
        ratio=st.sampled_from(["fixed", "learned", "dynamic"]),
        image_share=st.floats(0.01, 0.99),
        text_width=st.integers(1, 2048),
        train_keys=st.booleans(),
        gap=st.sampled_from(["affinity", "true-class", "divergence"]),
        hardness=st.floats(0, 1),
        agreement=st.floats(0, 10),
    ),
)


@st.composite
def ranges(draw: st.DrawFn, *, points: bool) -> dict[str, object]:
    low = draw(st.floats(0.1, 5))
    value = {"low": low, "high": low + draw(st.floats(0.1, 5)), "log": draw(st.booleans())}
    return value | ({"points": draw(st.integers(2, 512))} if points else {})


@st.composite
def methods(draw: st.DrawFn) -> MethodConfig:
    adapter = draw(_ADAPTERS)
    value: dict[str, object] = {"adapter": adapter.model_dump(), "trials": draw(st.none() | st.integers(1, 99))}
    if adapter.kind in ("tip-f", "ape-t", "xmadapter"):
        choice = st.fixed_dictionaries(
            {"choices": st.lists(st.integers(1, 9) | st.floats(1, 9), min_size=1, max_size=4)}
        )
        spaces = st.dictionaries(
            st.sampled_from(["sharpness", "cache_weight", "fit.learning_rate"]), ranges(points=False) | choice
        )
        grids = st.dictionaries(st.sampled_from(["sharpness", "cache_weight"]), ranges(points=True))
        value |= {"space": draw(st.none() | spaces), "solve": draw(st.none() | grids)}
    return MethodConfig.model_validate(value)


@st.composite
def sweeps(draw: st.DrawFn) -> SweepConfig:
    names = draw(st.lists(_TEXT, min_size=1, max_size=3, unique=True))
    return SweepConfig(
        features=draw(_TEXT),
        output=draw(_TEXT),
        experiment=draw(_TEXT),
        methods=tuple(draw(methods()).model_copy(update={"name": name}) for name in names),
        protocol=draw(st.sampled_from(["fewshot-val", "full-val"])),
        shots=tuple(draw(st.lists(st.integers(1, 64), min_size=1, max_size=5, unique=True))),
        seeds=tuple(draw(st.lists(st.integers(-5, 99), min_size=1, max_size=5, unique=True))),
    )


def dumped_and_loaded(config: SweepConfig | EncodeConfig) -> object:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.yaml"
        path.write_text(yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False), encoding="utf-8")
        return load(type(config), path)


@law
@given(sweeps())
def test_a_sweep_that_was_dumped_loads_as_itself(config: SweepConfig) -> None:
    loaded = dumped_and_loaded(config)
    assert loaded == config
    assert loaded.fingerprint == config.fingerprint


@law
@given(
    st.builds(
        lambda **values: EncodeConfig.model_validate(values),
        data=st.one_of(
            st.builds(lambda root: {"kind": "image-folder", "root": root}, _TEXT),
            st.builds(lambda path, image: {"kind": "parquet", "path": path, "image": image}, _TEXT, _TEXT),
        ),
        encoder=st.one_of(
            st.just({"kind": "embedded"}),
            st.builds(
                lambda model, tag: {"kind": "open_clip", "model": model, "pretrained": tag}, _TEXT, st.none() | _TEXT
            ),
            st.builds(lambda dim: {"kind": "tiny", "dim": dim}, st.integers(2, 4096)),
        ),
        output=_TEXT,
        prompts=st.lists(
            _TEXT.filter(lambda text: not set("{}") & set(text)).map(lambda text: text + "{}"), min_size=1, max_size=3
        ),
        views=st.integers(0, 1000),
        max_skip_fraction=st.floats(0, 1),
    )
)
def test_an_encode_job_that_was_dumped_loads_as_itself(config: EncodeConfig) -> None:
    assert dumped_and_loaded(config) == config
