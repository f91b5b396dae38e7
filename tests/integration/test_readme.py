"""The README's commands: the demo's are those that `make demo` runs, the others run here on what it left."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "pipelines/configs/demo/run.sh"
pytestmark = pytest.mark.timeout(600)


def blocks() -> list[list[str]]:
    found = re.findall(r"```sh\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.DOTALL)
    return [[line.split("#")[0].strip() for line in block.splitlines()] for block in found]


def environment() -> dict[str, str]:
    return os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}


@pytest.fixture(scope="module")
def demo() -> Path:
    """What `make demo` left; it is run where it has not been."""
    if not (ROOT / "runs/demo/bundle/bundle.json").is_file():
        subprocess.run(["sh", str(DEMO)], cwd=ROOT, env=environment(), check=True, stdout=subprocess.DEVNULL)
    return ROOT / "runs/demo"


def test_the_readme_has_three_blocks_of_commands():
    assert [len(block) for block in blocks()] == [2, 6, 7]


def test_the_six_lines_of_the_readme_are_the_demo():
    script = DEMO.read_text(encoding="utf-8").replace("$demo", "pipelines/configs/demo").replace("$out", "runs/demo")
    said = [line.removeprefix("say ").split(" >")[0] for line in script.splitlines() if line.startswith("say ")]
    *pipelines, predict = blocks()[1]
    assert said[:-1] == pipelines
    assert said[-1].split()[:3] == predict.split()[:3]


def test_the_other_commands_of_the_readme_run(demo: Path):
    assert demo.is_dir()
    for line in [blocks()[1][-1], *blocks()[2]]:
        done = subprocess.run(
            shlex.split(line), cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, f"{line}: {done.stderr}"
        assert done.stdout.strip(), line


def test_every_file_the_readme_links_to_is_there():
    links = re.findall(r"\]\(([^)#]+)\)", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert len(links) >= 8
    assert [link for link in links if not (ROOT / link).exists()] == []
