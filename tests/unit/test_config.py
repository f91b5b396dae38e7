"""From a YAML file and overrides to one config, or one message with every fault."""

import re
from pathlib import Path
from typing import get_args

import pytest

from tests.adapter_configs import EVERY
from xmadapter.config import (
    AdapterConfig,
    Choice,
    EncodeConfig,
    EvaluateConfig,
    LinearProbeConfig,
    MethodConfig,
    Range,
    SolveRange,
    SweepConfig,
    TipConfig,
    TipFConfig,
    XMAdapterConfig,
    ZeroShotConfig,
    load,
    with_parameters,
)
from xmadapter.errors import ConfigError

SWEEP = """
features: runs/features
output: runs/sweep
experiment: pets
methods:
  - adapter: {kind: zero-shot}
  - adapter: {kind: tip-f, fit: {epochs: 5}}
"""


@pytest.fixture
def sweep_file(tmp_path: Path) -> Path:
    path = tmp_path / "sweep.yaml"
    path.write_text(SWEEP)
    return path


def refusal(config_type: type, path: Path | None, *overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load(config_type, path, overrides)
    return str(caught.value)


def test_a_file_is_loaded(sweep_file: Path):
    config = load(SweepConfig, sweep_file)
    assert [method.title for method in config.methods] == ["Zero-shot", "Tip-Adapter-F"]
    assert config.methods[1].adapter == TipFConfig.model_validate({"fit": {"epochs": 5}})


@pytest.mark.parametrize(
    ("typo", "meant"),
    [
        ("experimnt=x", "experiment"),
        ("protocl=x", "protocol"),
        ("sedes=[1]", "seeds"),
        ("max_failed=1", "max_failed_fraction"),
    ],
)
def test_a_misspelt_key_names_the_one_that_was_meant(sweep_file: Path, typo: str, meant: str):
    name = typo.partition("=")[0]
    assert f"{name}: unknown key (did you mean {meant}?)" in refusal(SweepConfig, sweep_file, typo)


@pytest.mark.parametrize(
    ("config_type", "override", "meant"),
    [
        (SweepConfig, "cluster.adress=auto", "address"),
        (SweepConfig, "tracking.url=x", "uri"),
        (EncodeConfig, "image.inverted=true", "invert"),
    ],
)
def test_a_misspelt_nested_key_names_the_one_that_was_meant(
    sweep_file: Path, config_type: type, override: str, meant: str
):
    path = sweep_file if config_type is SweepConfig else None
    name = override.partition("=")[0]
    assert f"{name}: unknown key (did you mean {meant}?)" in refusal(config_type, path, override)


def test_a_key_like_no_other_gets_no_suggestion(sweep_file: Path):
    assert refusal(SweepConfig, sweep_file, "xyzzy=1") == f"{sweep_file}: xyzzy: unknown key"


def test_several_faults_come_in_one_message(sweep_file: Path):
    message = refusal(SweepConfig, sweep_file, "shots=[0]", "seeds=[1, 1]", "protocl=x", "max_failed_fraction=2")
    for part in (
        "shots: shots are images a class, at least 1, got 0",
        "seeds: each value once",
        "protocl",
        "max_failed_fraction",
    ):
        assert part in message
    assert "\n" not in message
    assert message.count(";") >= 3


def test_a_missing_key_is_named(sweep_file: Path):
    message = refusal(SweepConfig, None)
    assert all(f"{name}: missing" in message for name in ("features", "output", "experiment", "methods"))


def test_an_unknown_kind_names_the_nearest_and_all(sweep_file: Path):
    message = refusal(SweepConfig, sweep_file, "methods=[{adapter: {kind: tipf}}]")
    assert "no kind 'tipf' (did you mean tip-f?)" in message
    assert all(kind in message for kind in ("zero-shot", "linear-probe", "'tip'", "'tip-f'", "xmadapter"))


def test_a_missing_kind_is_told(sweep_file: Path):
    assert "`kind` is missing" in refusal(SweepConfig, sweep_file, "methods=[{adapter: {}}]")


def test_two_methods_of_one_title_are_refused_until_named(sweep_file: Path):
    twice = "methods=[{adapter: {kind: tip}}, {adapter: {kind: tip, sharpness: 2}%s}]"
    assert "two methods are called 'Tip-Adapter'; give one of them a `name`" in refusal(
        SweepConfig, sweep_file, twice % ""
    )
    config = load(SweepConfig, sweep_file, [(twice % "").replace("2}}", "2}, name: Blunt}")])
    assert [method.title for method in config.methods] == ["Tip-Adapter", "Blunt"]


def test_shots_are_sorted_and_unique(sweep_file: Path):
    assert load(SweepConfig, sweep_file, ["shots=[16, 1, 4]"]).shots == (1, 4, 16)
    assert "each value once" in refusal(SweepConfig, sweep_file, "shots=[1, 1]")


def test_overrides_are_yaml_and_the_last_wins(sweep_file: Path):
    config = load(SweepConfig, sweep_file, ["shots=[1]", "cluster.address=auto", "shots=[2, 4]", "search.seed=7"])
    assert (config.shots, config.cluster.address, config.search.seed) == ((2, 4), "auto", 7)


def test_an_override_may_hold_an_equals_sign():
    assert load(EvaluateConfig, None, ["sweep=runs/a=b"]).sweep == "runs/a=b"


@pytest.mark.parametrize("override", ["shots", "=1", ""])
def test_an_override_without_name_or_value_says_how_to_write_one(override: str):
    assert "is not an override; write name=value" in refusal(SweepConfig, None, override)


@pytest.mark.parametrize("override", ["a..b=1", ".a=1", "a.=1"])
def test_an_override_with_an_empty_part_is_refused(override: str):
    assert "override" in refusal(SweepConfig, None, override) or "unknown key" in refusal(SweepConfig, None, override)


def test_an_override_into_a_value_is_refused(sweep_file: Path):
    assert "override experiment.name: experiment is not a mapping" in refusal(
        SweepConfig, sweep_file, "experiment.name=x"
    )


def test_an_override_of_broken_yaml_is_refused(sweep_file: Path):
    refusal(SweepConfig, sweep_file, "shots=[1")


@pytest.mark.parametrize("text", ["", "- a", "text", "5"])
def test_a_file_that_is_no_mapping_is_refused(tmp_path: Path, text: str):
    (tmp_path / "a.yaml").write_text(text)
    assert re.search(r"a\.yaml: expected a mapping of keys, got \w+", refusal(SweepConfig, tmp_path / "a.yaml"))


def test_a_space_key_that_is_no_field_is_refused_by_name(sweep_file: Path):
    message = refusal(
        SweepConfig, sweep_file, "methods=[{adapter: {kind: tip-f}, space: {sharpnes: {low: 1, high: 2}}}]"
    )
    assert "methods.0" in message
    assert "sharpnes" in message
    assert "errors.pydantic.dev" not in message


@pytest.mark.parametrize("name", ["fit.epoch", "fit.epochs.more", "sharpness.x", "nothing.at.all"])
def test_a_dotted_space_key_that_is_no_field_is_refused_by_name(name: str):
    with pytest.raises(ValueError, match=name.rpartition(".")[2]):
        MethodConfig(adapter=TipFConfig(), space={name: Range(low=1, high=2)})


def test_a_space_whose_bounds_leave_the_field_is_refused():
    with pytest.raises(ValueError, match="sharpness"):
        MethodConfig(adapter=TipFConfig(), space={"sharpness": Range(low=-1, high=2)})
    with pytest.raises(ValueError, match="ratio"):
        MethodConfig(adapter=XMAdapterConfig(), space={"ratio": Choice(choices=("fixed", "clever"))})


@pytest.mark.parametrize(
    ("adapter", "name"),
    [
        (TipFConfig(), "fit.epochs"),
        (TipFConfig(), "fit.learning_rate"),
        (XMAdapterConfig(), "hardness"),
        (XMAdapterConfig(), "text_width"),
        (LinearProbeConfig(), "fit.learning_rate"),
    ],
)
def test_only_what_votes_depend_on_can_be_solved(adapter: TipFConfig, name: str):
    with pytest.raises(ValueError, match=rf"{name} cannot be solved inside a trial"):
        MethodConfig(adapter=adapter, solve={name: SolveRange(low=1, high=2)})


def test_the_image_share_can_be_solved_only_where_it_is_fixed():
    grid = {"image_share": SolveRange(low=0.1, high=0.9)}
    with pytest.raises(ValueError, match="image_share cannot be solved"):
        MethodConfig(adapter=XMAdapterConfig(), solve=grid)
    assert MethodConfig(adapter=XMAdapterConfig(ratio="fixed"), solve=grid).solve_grid == grid


@pytest.mark.parametrize("share", [0, 1])
@pytest.mark.parametrize("ratio", ["learned", "dynamic"])
def test_an_image_share_without_a_finite_logit_is_refused(ratio: str, share: int):
    with pytest.raises(ValueError, match="no finite logit"):
        XMAdapterConfig(ratio=ratio, image_share=share)
    assert XMAdapterConfig(ratio="fixed", image_share=share).image_share == share


@pytest.mark.parametrize("kind", [Range, SolveRange])
def test_a_range_ascends_and_a_logarithmic_one_starts_above_zero(kind: type):
    for low, high, log in ((2, 1, False), (1, 1, False), (0, 1, True), (-1, 1, True)):
        with pytest.raises(ValueError, match=r"low must be below high|starts above 0"):
            kind(low=low, high=high, log=log)


@pytest.mark.parametrize("value", [".nan", ".inf", "-.inf"])
def test_numbers_are_finite(sweep_file: Path, value: str):
    assert "not a finite number" in refusal(SweepConfig, sweep_file, f"search.seed={value}")


def test_every_default_space_and_grid_fits_its_adapter():
    for adapter in (ZeroShotConfig(), LinearProbeConfig(), TipConfig(), TipFConfig(), XMAdapterConfig()):
        method = MethodConfig(adapter=adapter)
        assert method.draws == (adapter.default_trials if adapter.default_space else 1)


def test_a_method_without_a_space_runs_once_whatever_its_trials():
    assert MethodConfig(adapter=TipFConfig(), space={}, trials=50).draws == 1
    assert MethodConfig(adapter=TipFConfig(), trials=50).draws == 50


def test_setting_a_parameter_checks_its_bounds_and_leaves_the_original():
    config = TipFConfig()
    changed = with_parameters(config, {"sharpness": 2, "fit.epochs": 7})
    assert (changed.sharpness, changed.fit.epochs, config.fit.epochs) == (2.0, 7, TipFConfig().fit.epochs)
    with pytest.raises(ValueError, match="greater than 0"):
        with_parameters(config, {"sharpness": 0})


def test_a_parameter_cannot_make_an_adapter_of_another_kind():
    with pytest.raises(ValueError, match="kind"):
        with_parameters(ZeroShotConfig(), {"kind": "tip"})


@pytest.mark.parametrize("prompt", ["a photo", "{} {}", "{name}", "{0}", "a {} {", "{}}", "{{}}"])
def test_a_prompt_has_one_slot(prompt: str):
    with pytest.raises(ValueError, match=r"needs exactly one \{\}"):
        EncodeConfig.model_validate({"data": {"kind": "image-folder", "root": "x"}, "output": "y", "prompts": [prompt]})


def test_the_order_of_keys_and_defaults_do_not_change_a_fingerprint():
    spelt_out = TipFConfig.model_validate(dict(reversed(TipFConfig().model_dump().items())))
    assert spelt_out.fingerprint == TipFConfig().fingerprint != TipFConfig(sharpness=5).fingerprint


def test_the_tests_of_all_kinds_know_every_kind():
    union = get_args(get_args(AdapterConfig)[0])
    assert {type(config) for config in EVERY} == set(union)
