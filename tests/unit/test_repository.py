"""What the repository itself must keep to."""

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]


def tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [ROOT / name for name in listed.split("\0") if name]


def test_constraints_hold_names_and_versions_only():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    assert len(lines) > 100
    assert [line for line in lines if not re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9._+!-]+", line)] == []


def test_no_tracked_text_names_a_package_registry_or_a_home_folder():
    hosts = re.compile(r"https?://[a-z0-9.-]*(pypi|pythonhosted|npmjs|debian)[a-z0-9.-]*\.(org|com)|/ro[o]t/")
    texts = [path for path in tracked() if path.suffix not in {".png", ".parquet", ".safetensors"}]
    assert len(texts) > 100
    found = [path.name for path in texts if hosts.search(path.read_text(encoding="utf-8"))]
    assert found == []


def test_every_config_says_how_to_run_it():
    configs = sorted((ROOT / "pipelines" / "configs").rglob("*.yaml"))
    assert len(configs) >= 5
    for path in configs:
        command = path.read_text(encoding="utf-8").partition("\n")[0]
        pipeline = command.removeprefix("# python -m pipelines.").partition(" ")[0]
        assert (ROOT / "pipelines" / f"{pipeline}.py").is_file(), path
        assert command == f"# python -m pipelines.{pipeline} --config {path.relative_to(ROOT).as_posix()}"
