"""cluster/*.yaml: each passes its schema, and keeps to token, pins and pools that grow from nothing."""

import configparser
import copy
import re
import shlex
import zipfile
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from pydantic import ValidationError

from tests.unit.kuberay import Manifest, RayCluster, RayJob
from xmadapter.config import EncodeConfig, SweepConfig, load
from xmadapter.config.doctor import DoctorConfig

ROOT = Path(__file__).parents[2]
CLUSTER = ROOT / "cluster"
LAUNCHED = ("aws-gpu", "gcp-gpu", "on-prem")
CLOUDS = ("aws-gpu", "gcp-gpu")
FREE = {"requests", "limits", "rayStartParams", "matchLabels"}
"""Mappings whose keys are names that someone chose; the schema holds them to a list or a pattern instead."""


def read(name: str) -> dict[str, Any]:
    return yaml.safe_load((CLUSTER / f"{name}.yaml").read_text(encoding="utf-8"))


def manifests() -> list[dict[str, Any]]:
    texts = [(CLUSTER / f"{name}.yaml").read_text(encoding="utf-8") for name in ("kuberay", "rayjob")]
    return [document for text in texts for document in yaml.safe_load_all(text)]


def check(config: dict[str, Any]) -> None:
    """Ray's own check; it is private, and a pinned Ray is what reads these files."""
    from ray.autoscaler._private.util import prepare_config, validate_config

    # The wheel lacks the defaults of the fake provider, so its file is whole.
    validate_config(config if config["provider"]["type"] == "fake_multinode" else prepare_config(config))


def pinned(package: str) -> str:
    (version,) = re.findall(rf"^{package}==(.+)$", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE)
    return version


@pytest.mark.parametrize("name", [*LAUNCHED, "local"])
def test_ray_accepts_the_file(name):
    check(read(name))


@pytest.mark.parametrize("name", [*LAUNCHED, "local"])
def test_ray_refuses_any_misspelt_key_of_the_file(name):
    config = read(name)
    refused = 0
    for key in config:
        wrong = {(f"{each}x" if each == key else each): value for each, value in config.items()}
        with pytest.raises((jsonschema.ValidationError, ValueError, KeyError, RuntimeError)):
            check(wrong)
        refused += 1
    assert refused >= 9


@pytest.mark.parametrize("name", CLOUDS)
def test_ray_refuses_a_misspelt_key_of_a_node_type(name):
    config = read(name)
    config["available_node_types"]["gpu"]["max_worker"] = config["available_node_types"]["gpu"].pop("max_workers")
    with pytest.raises(jsonschema.ValidationError, match="max_worker"):
        check(config)


@pytest.mark.parametrize("name", [*CLOUDS, "local"])
def test_the_head_runs_no_task_and_both_pools_grow_from_nothing(name):
    config = read(name)
    types = config["available_node_types"]
    head = types[config["head_node_type"]]
    assert head["resources"] == {"CPU": 0}
    pools = {kind: each for kind, each in types.items() if each is not head}
    assert {kind: each["resources"].get("GPU", 0) for kind, each in pools.items()} == {"cpu": 0, "gpu": 1}
    assert all(each["min_workers"] == 0 < each["max_workers"] for each in pools.values())
    assert sum(each["max_workers"] for each in pools.values()) == config["max_workers"]
    assert 0 < config["idle_timeout_minutes"] <= 5


@pytest.mark.parametrize("name", CLOUDS)
def test_workers_in_a_cloud_are_spot_nodes_and_the_head_is_not(name):
    types = read(name)["available_node_types"]
    spot = re.compile(r"'MarketType': 'spot'|'preemptible': True")
    assert {kind: bool(spot.search(str(each["node_config"]))) for kind, each in types.items()} == {
        "head": False,
        "cpu": True,
        "gpu": True,
    }


@pytest.mark.parametrize("name", LAUNCHED)
def test_no_launched_cluster_starts_without_its_token(name):
    config = read(name)
    starts = [
        command
        for key in ("head_start_ray_commands", "worker_start_ray_commands")
        for command in config[key]
        if "ray start" in command
    ]
    assert len(starts) == 2
    in_container = "--env RAY_AUTH_MODE=token" in config.get("docker", {}).get("run_options", [])
    assert all(in_container or "export RAY_AUTH_MODE=token" in start.partition("ray start")[0] for start in starts)
    assert config["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"
    assert "chmod 600 ~/.ray/auth_token" in config["setup_commands"]
    (head,) = (start for start in starts if "--head" in start)
    assert "--dashboard-host=127.0.0.1" in shlex.split(head)


def test_no_file_opens_an_address_to_everyone_or_holds_a_secret():
    files = [path for path in CLUSTER.rglob("*") if path.is_file()]
    assert len(files) >= 10
    open_or_secret = re.compile(r"0\.0\.0\.0|[0-9a-f]{32}|(PASSWORD|SECRET\w*|admin_password)[ \t]*=[ \t]*\S")
    assert [path.name for path in files if open_or_secret.search(path.read_text(encoding="utf-8"))] == []


def test_images_hold_the_ray_and_a_python_that_the_project_is_pinned_to():
    texts = {path.name: path.read_text(encoding="utf-8") for path in CLUSTER.iterdir() if path.is_file()}
    images = [image for text in texts.values() for image in re.findall(r"rayproject/ray:(\S+)", text)]
    assert len(images) >= 5
    assert {image.split("-")[0] for image in images} == {pinned("ray")}
    assert {image.split("-")[1] for image in images} <= {"py311", "py312", "py313"}


def test_the_manifests_hold_known_keys_with_values_of_their_types():
    kinds = [type(Manifest.validate_python(document)).__name__ for document in manifests()]
    assert kinds == ["RayCluster", "NetworkPolicy", "RayJob"]


def keys(value: Any, free: bool = False) -> Iterator[tuple[dict[str, Any], str]]:
    """Each mapping inside a document with each of its keys that a schema names."""
    if isinstance(value, dict):
        if not free:
            yield from ((value, key) for key in list(value))
        for key, inner in value.items():
            yield from keys(inner, key in FREE)
    elif isinstance(value, list):
        for inner in value:
            yield from keys(inner)


def test_a_misspelt_key_anywhere_in_a_manifest_is_refused():
    tried = 0
    for document in manifests():
        for number in range(len(list(keys(document)))):
            wrong = copy.deepcopy(document)
            mapping, key = list(keys(wrong))[number]
            mapping[f"{key}x"] = mapping.pop(key)
            with pytest.raises(ValidationError):
                Manifest.validate_python(wrong)
            tried += 1
    assert tried > 100


def test_on_kubernetes_the_head_runs_no_task_and_both_pools_grow_from_nothing():
    cluster = Manifest.validate_python(manifests()[0])
    assert isinstance(cluster, RayCluster)
    assert cluster.spec.headGroupSpec.rayStartParams == {"num-cpus": "0", "num-gpus": "0"}
    groups = cluster.spec.workerGroupSpecs
    assert [group.groupName for group in groups] == ["cpu", "gpu"]
    assert all(group.replicas == group.minReplicas == 0 < group.maxReplicas for group in groups)
    limits = [group.template.spec.containers[0].resources.limits for group in groups]
    assert [limit.get("nvidia.com/gpu") for limit in limits] == [None, "1"]
    assert cluster.spec.rayVersion == pinned("ray")


def test_the_shipped_job_runs_on_the_shipped_cluster():
    cluster, _, job = (Manifest.validate_python(document) for document in manifests())
    assert isinstance(job, RayJob)
    assert job.spec.clusterSelector.cluster == cluster.metadata.name
    words = shlex.split(job.spec.entrypoint)
    assert (ROOT / words[words.index("--config") + 1]).is_file()
    assert (ROOT / "pipelines" / f"{words[2].removeprefix('pipelines.')}.py").is_file()


def commands() -> Iterator[list[str]]:
    """Words of each command of README.md and of the job: what follows a variable, a bracket or a sign that joins commands."""
    readme = (CLUSTER / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```sh\n(.*?)```", readme, re.DOTALL)
    assert len(blocks) == 3
    for block in [*blocks, manifests()[2]["spec"]["entrypoint"]]:
        for command in re.split(r"[\n;()&]|> ", block.replace("&&", ";")):
            yield [word for word in shlex.split(command) if not re.match(r"[A-Z_]+=|export$", word)]


def test_every_ray_command_of_the_readme_exists_with_its_options():
    import click
    from ray.scripts.scripts import cli

    tried = 0
    for words in (words for words in commands() if words[:1] == ["ray"]):
        own, _, _ = " ".join(words[1:]).partition(" -- ")
        command: Any = cli
        while isinstance(command, click.Group):
            name, _, own = own.partition(" ")
            command = command.commands[name]
        known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
        assert {word.partition("=")[0] for word in own.split() if word.startswith("--")} <= known, words
        tried += 1
    assert tried >= 8


def test_every_pipeline_of_the_readme_takes_its_overrides_and_joins_the_cluster():
    configs = {"encode": EncodeConfig, "sweep": SweepConfig, "doctor": DoctorConfig}
    tried = set()
    for words in (words for words in commands() if "-m" in words):
        name, *rest = words[words.index("-m") + 1 :]
        pipeline = name.removeprefix("pipelines.")
        file, overrides = (rest[1], rest[2:]) if rest[0] == "--config" else (None, rest)
        path = ROOT / (f"pipelines/configs/demo/{pipeline}.yaml" if file == "FILE" else file) if file else None
        assert load(configs[pipeline], path, overrides).cluster.address == "auto"
        tried.add(pipeline)
    assert tried == configs.keys()


def test_the_local_cluster_is_started_by_one_command_wherever_it_stands():
    (line,) = (
        line for line in (CLUSTER / "local.yaml").read_text(encoding="utf-8").splitlines() if " ray start " in line
    )
    assert line.removeprefix("#").strip() in (CLUSTER / "README.md").read_text(encoding="utf-8")


def test_every_file_of_the_folder_stands_in_the_readme():
    readme = (CLUSTER / "README.md").read_text(encoding="utf-8")
    names = [path.name for path in CLUSTER.iterdir() if path.name != "README.md"]
    assert len(names) >= 8
    assert [name for name in names if f"`{name}" not in readme] == []


def test_a_job_takes_code_configs_and_shipped_weights_along_and_nothing_else(tmp_path):
    from ray._private.runtime_env.packaging import create_package

    excludes = read("runtime_env")["excludes"]
    tree = tmp_path / "tree"
    kept = ["pipelines/encode.py", "xmadapter/encoders/data/a.safetensors", "pipelines/configs/demo/encode.yaml"]
    left = [
        ".git/HEAD",
        ".venv/bin/python",
        "runs/features/1.arrow",
        "store/000001.arrow",
        "mlflow.db",
        "runs/bundle/x.safetensors",
        "tests/test_x.py",
    ]
    for name in (*kept, *left):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).touch()
    package = tmp_path / "package.zip"
    create_package(str(tree), package, include_gitignore=True, excludes=excludes)
    with zipfile.ZipFile(package) as archive:
        assert sorted(name for name in archive.namelist() if not name.endswith("/")) == sorted(kept)


def test_the_tracking_server_asks_who_comes_and_under_which_name():
    unit = configparser.ConfigParser(interpolation=None, strict=False)
    unit.optionxform = str  # pyright: ignore[reportAttributeAccessIssue]
    unit.read(CLUSTER / "tracking" / "mlflow.service")
    words = shlex.split(unit["Service"]["ExecStart"])
    options = dict(pairwise(words))
    assert options["--app-name"] == "basic-auth"
    assert options["--host"] == "127.0.0.1"
    assert options["--allowed-hosts"] == "${MLFLOW_HOSTS}"
    auth = configparser.ConfigParser()
    auth.read(CLUSTER / "tracking" / "basic_auth.ini")
    assert auth["mlflow"]["default_permission"] == "NO_PERMISSIONS"
    assert "admin_password" not in auth["mlflow"]
    named = set(re.findall(r"\$\{(\w+)\}", unit["Service"]["ExecStart"]))
    given = set(re.findall(r"^(\w+)=", (CLUSTER / "tracking" / "mlflow.env").read_text(encoding="utf-8"), re.MULTILINE))
    assert named <= given
