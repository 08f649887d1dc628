"""What Binder will build: read from the Dockerfile that repo2docker writes, and carried out in a scratch environment."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tools import torch_source
from tools.say import ROOT

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Binder's scripts are for Linux")

BINDER = ROOT / "binder"
INDEX_LINE = "--extra-index-url https://download.pytorch.org/whl/cpu\n"


@pytest.fixture(scope="module")
def dockerfile(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The Dockerfile for this checkout. repo2docker runs in a copy, because it reads all of a folder."""
    copy = copied(tmp_path_factory.mktemp("repo2docker"))
    command = [
        sys.executable,
        "-m",
        "repo2docker",
        "--no-build",
        "--debug",
        "--user-id",
        "1000",
        "--user-name",
        "learner",
        ".",
    ]
    done = subprocess.run(command, cwd=copy, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def copied(folder: Path) -> Path:
    """The files that a clone would have, wanted by the build: this checkout less what git ignores."""
    copy = folder / "kit"
    ignored = shutil.ignore_patterns(
        ".git",
        ".venv",
        "build",
        "wheels",
        "__pycache__",
        ".*_cache",
        ".hypothesis",
        ".ipynb_checkpoints",
    )
    shutil.copytree(ROOT, copy, ignore=ignored)
    return copy


def test_the_python_is_new_enough(dockerfile: str) -> None:
    chosen = re.search(r"environment-2epy-2d(\d+)-2e(\d+)-2d", dockerfile)
    assert chosen and (int(chosen.group(1)), int(chosen.group(2))) >= (3, 11)


def test_the_requirements_are_installed_when_the_kit_is_there(dockerfile: str) -> None:
    """`-r ../requirements.txt` and `-e .` need the whole repository, so the copy comes first; then postBuild, then start."""
    steps = [
        " src/ ${REPO_DIR}/",
        'pip install --no-cache-dir -r "binder/requirements.txt"',
        "RUN ./binder/postBuild",
        'ENV R2D_ENTRYPOINT="${REPO_DIR}/binder/start"',
    ]
    places = [dockerfile.find(step) for step in steps]
    assert -1 not in places and places == sorted(places)


def test_binder_installs_what_the_classroom_installs() -> None:
    lines = (BINDER / "requirements.txt").read_text().splitlines()
    lines = [line for line in lines if line and not line.startswith("#")]
    assert lines[0] + "\n" == INDEX_LINE, "the index must stand above what is taken from it"
    assert "-r ../requirements.txt" in lines and "-e ." in lines
    assert not any(line.startswith("torch") for line in lines), "one place pins torch"
    assert all("==" in line for line in lines[1:] if not line.startswith("-"))


def test_the_ordinary_requirements_name_no_other_index() -> None:
    assert "index" not in (ROOT / "requirements.txt").read_text()
    pins = [
        line
        for line in (ROOT / "requirements.txt").read_text().splitlines()
        if line and not line.startswith("#")
    ]
    assert all(re.fullmatch(r"[\w-]+==[\w.]+", line) for line in pins)


@pytest.mark.parametrize("script", ["start", "postBuild"])
def test_the_scripts_can_be_run(script: str) -> None:
    assert os.access(BINDER / script, os.X_OK)
    listed = subprocess.run(
        ["git", "ls-files", "--stage", f"binder/{script}"], cwd=ROOT, capture_output=True, text=True
    )
    if listed.returncode == 0 and listed.stdout:
        assert listed.stdout.startswith("100755"), "git must know it as executable"


class Image:
    """A scratch environment made in the image's order: what repo2docker brings, the requirements, postBuild."""

    def __init__(self, folder: Path) -> None:
        self.kit = copied(folder)
        venv = folder / "environment"
        subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
        self.environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("OMP_", "MKL_", "PYTHONPATH"))
        }
        self.environment |= {
            "PATH": f"{venv / 'bin'}{os.pathsep}{os.environ['PATH']}",
            "JUPYTER_RUNTIME_DIR": str(folder / "runtime"),
            "PIP_COMPILE": "0",  # 160 MB of Python, of which these tests import a tenth
        }
        self.run("python", "-m", "pip", "install", "--quiet", *what_the_image_brings())
        requirements = self.kit / "binder" / "requirements.txt"
        text = requirements.read_text()
        assert INDEX_LINE in text
        requirements.write_text(
            text.replace(INDEX_LINE, "")
        )  # what stands for it is the index that this machine can reach
        options = torch_source.pip_options(sys.executable)
        self.run(
            "python", "-m", "pip", "install", "--quiet", *options, "-r", "binder/requirements.txt"
        )

    def run(
        self, *command: str, check: bool = True, **more: str
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            command,
            cwd=self.kit,
            env=self.environment | more,
            capture_output=True,
            text=True,
            timeout=600,
        )
        assert not check or done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done


def what_the_image_brings() -> list[str]:
    """The Jupyter packages that repo2docker puts into the image before the requirements, at its own versions."""
    specification = importlib.util.find_spec(
        "repo2docker"
    )  # found, not imported: importing it warns
    assert specification is not None and specification.origin is not None
    version = (BINDER / "runtime.txt").read_text().strip().removeprefix("python-")
    lock = (
        Path(specification.origin).parent
        / "buildpacks"
        / "conda"
        / f"environment.py-{version}-linux-64.lock"
    )
    found = dict(
        re.findall(
            r"/(notebook|jupyterlab|jupyter_server|jupyterhub-base|ipykernel|ipywidgets)-(\d[\w.]*)-",
            lock.read_text(),
        )
    )
    assert {"notebook", "jupyterlab", "jupyter_server", "jupyterhub-base"} <= set(found)
    return [f"{name.removesuffix('-base')}=={number}" for name, number in found.items()]


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    folder = tmp_path_factory.mktemp("binder")
    yield Image(folder)
    shutil.rmtree(folder, ignore_errors=True)  # over a gigabyte


def test_the_image_is_consistent_and_post_build_passes(image: Image) -> None:
    assert "No broken requirements" in image.run("python", "-m", "pip", "check").stdout
    done = image.run("./binder/postBuild")
    assert "smoke test: torch 2.13.0" in done.stdout and done.stdout.strip().endswith("good")


def test_post_build_fails_the_build_when_the_kit_is_broken(image: Image) -> None:
    package = image.kit / "fnlib" / "__init__.py"
    text = package.read_text()
    try:
        package.write_text("raise ImportError('broken on purpose')\n")
        done = image.run("./binder/postBuild", check=False)
        assert done.returncode != 0 and "broken on purpose" in done.stderr
    finally:
        package.write_text(text)


def test_start_hands_over_with_one_thread(image: Image) -> None:
    code = "import os, torch; print(os.environ['OMP_NUM_THREADS'], torch.get_num_threads(), __import__('fnlib').__name__)"
    done = image.run("./binder/start", "python", "-c", code)
    assert done.stdout.split() == ["1", "1", "fnlib"]
    assert image.run("./binder/start", "bash", "-c", "exit 7", check=False).returncode == 7


def test_the_image_serves_the_first_lesson(image: Image) -> None:
    """The command of the Dockerfile, behind the start script; the page that the launch link names."""
    lesson = next(iter(sorted((image.kit / "lessons").glob("00_*.ipynb"))))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen(
        [
            "./binder/start",
            "jupyter",
            "notebook",
            "--ip=127.0.0.1",
            f"--port={port}",
            "--no-browser",
            "--allow-root",
            "--ServerApp.port_retries=0",
            "--IdentityProvider.token=secret",
        ],
        cwd=image.kit,
        env=image.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        page = answer(f"http://127.0.0.1:{port}/lab/tree/lessons/{lesson.name}?token=secret")
        assert "JupyterLab" in page
        contents = json.loads(
            answer(
                f"http://127.0.0.1:{port}/api/contents/lessons/{lesson.name}?content=0&token=secret"
            )
        )
        assert contents["type"] == "notebook"
    finally:
        server.terminate()
        server.wait(timeout=60)


def answer(address: str, seconds: float = 60) -> str:
    deadline = time.monotonic() + seconds
    while True:
        try:
            with urllib.request.urlopen(address, timeout=10) as page:
                return str(page.read().decode())
        except ConnectionError:
            pass
        except OSError as error:
            if not isinstance(getattr(error, "reason", None), ConnectionError):
                raise
        assert time.monotonic() < deadline, f"no answer from {address}"
        time.sleep(0.2)
