"""What README.md says is so: its examples run, its commands and links exist, its table is that of the lessons."""

from __future__ import annotations

import doctest
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from course import lesson_map, links
from fnlib.teaching import SETUP_CELL
from tools import kit
from tools.say import BINDER, ROOT, Stop

README = (ROOT / "README.md").read_text(encoding="utf-8")
INSTALL = (ROOT / "docs" / "install.md").read_text(encoding="utf-8")


def links_of(text: str) -> list[str]:
    named = re.findall(r"^\[\w+\]: (\S+)$", text, re.MULTILINE)
    return re.findall(r"\]\(([^)\s]+)\)", text) + named


LINKS = links_of(README)


def test_the_examples_run() -> None:
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    for page in ("README.md", "docs/use.md", "docs/functional.md"):
        result = doctest.testfile(str(ROOT / page), module_relative=False, optionflags=flags)
        assert result.attempted > 7 and result.failed == 0, page


# What `pip install fnlib` does not bring. PyTorch itself warns where NumPy is missing; that is not ours to change.
BARE = """
import sys, warnings
for name in ("numpy", "matplotlib", "sklearn", "scipy", "IPython", "ipywidgets", "tqdm", "PIL"):
    sys.modules[name] = None
warnings.filterwarnings("ignore", "Failed to initialize NumPy")
"""


def bare(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Runs code where nothing but PyTorch and safetensors can be imported."""
    return subprocess.run(
        [sys.executable, "-c", BARE + code],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        env=dict(os.environ, PYTHONPATH=str(ROOT)),
    )


def test_the_examples_run_with_nothing_but_pytorch(tmp_path: Path) -> None:
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    code = (
        f"import doctest; r = doctest.testfile({str(ROOT / 'README.md')!r}, module_relative=False, optionflags={flags})\n"
        "sys.exit(r.failed or r.attempted < 8)"
    )
    done = bare(code, tmp_path)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


def test_the_ledger_shows_itself_with_nothing_but_pytorch(tmp_path: Path) -> None:
    """Text, HTML and the player stand; the picture says in a sentence what it needs; so does the doctor's recording."""
    (tmp_path / "train.py").write_text(
        "import torch\nw = torch.ones(2, requires_grad=True)\nw.sum().backward()\n"
    )
    done = bare(
        """
import torch, fnlib
model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Dropout())
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
own = torch.Generator()
with fnlib.Ledger(model=model, optimizer=optimizer, own=own) as ledger:
    torch.rand(1, generator=own)
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
assert "random" in str(ledger) and "<table" in ledger._repr_html_()
assert str(ledger.replay())
try:
    ledger.plot()
except ImportError as error:
    print(error)
from fnlib.__main__ import main
sys.argv = ["fnlib", "doctor", "train.py"]
sys.exit(main())
""",
        tmp_path,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.startswith(
        "ledger.plot() draws with matplotlib, which is not installed here: pip install matplotlib. Without it,"
    )


def test_every_link_within_the_kit_leads_somewhere() -> None:
    inside = [link for link in LINKS if not re.match(r"https?:", link)]
    assert inside and not [
        link for link in inside if not (ROOT / unquote(link.split("#")[0])).exists()
    ]


def test_every_launch_link_opens_a_file_of_the_kit() -> None:
    repository, tag = links.published()
    opened = []
    for link in LINKS + links_of(INSTALL):
        parts = urlsplit(link)
        query = parse_qs(parts.query)
        if parts.netloc == "mybinder.org" and parts.path.startswith("/v2/"):
            assert parts.path == f"/v2/gh/{repository}/{tag}"
            opened.append(query["urlpath"][0].removeprefix("lab/tree/"))
        elif parts.netloc == "colab.research.google.com":
            opened.append(parts.path.removeprefix(f"/github/{repository}/blob/{tag}/"))
        elif parts.path.endswith(
            "/git-pull"
        ):  # nbgitpuller clones into a folder of the repository's name
            assert query["repo"] == [f"https://github.com/{repository}"] and query["branch"] == [
                tag
            ]
            opened.append(query["urlpath"][0].removeprefix(f"lab/tree/{repository.split('/')[1]}/"))
    assert len(opened) >= 4
    assert not [path for path in opened if not (ROOT / path).is_file()]


def test_every_command_exists() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.search(r"^COMMANDS = (.+)$", makefile, re.MULTILINE).group(1).split())  # type: ignore[union-attr]
    assert {"lab", "test"} <= {*re.findall(r"(?:^|`)make (\w+)", README, re.MULTILINE)} <= targets
    assert targets <= set(kit.COMMANDS)
    assert {*re.findall(r"tools/kit\.py (\w+)", README)} <= set(kit.COMMANDS)


def modules_to_run() -> set[str]:
    """Find what `python -m` is said to run, in the pages and in the commands themselves."""
    pages = [*ROOT.glob("*.md"), *(ROOT / "lessons").glob("*.md")]
    pages += [path for part in ("course", "tests", "tools") for path in (ROOT / part).rglob("*.py")]
    command = re.compile(r"python -m ((?:fnlib|course|tests|tools)(?:\.\w+)*)(?![\w.]*\()")
    return {
        module for page in pages for module in command.findall(page.read_text(encoding="utf-8"))
    }


@pytest.mark.parametrize("module", sorted(modules_to_run()))
def test_a_module_that_is_run_has_a_main_part(module: str) -> None:
    found = importlib.util.find_spec(module)
    if found is not None and found.submodule_search_locations is not None:  # a package
        found = importlib.util.find_spec(f"{module}.__main__")
    assert found is not None and found.origin is not None, module
    assert 'if __name__ == "__main__":' in Path(found.origin).read_text(encoding="utf-8")


def test_the_doctor_reads_a_script_as_it_stands(tmp_path: Path) -> None:
    """The command of the README, on a script with the most common fault."""
    script = tmp_path / "train.py"
    script.write_text(
        "import torch\nmodel = torch.nn.Linear(2, 1)\noptimizer = torch.optim.SGD(model.parameters(), lr=0.1)\n"
        "for step in range(3):\n    loss = model(torch.ones(1, 2)).sum()\n    loss.backward()\n    optimizer.step()\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "fnlib", "doctor", "train.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env=dict(os.environ, PYTHONPATH=str(ROOT)),
    )
    assert "optimizer.zero_grad()" in done.stdout + done.stderr


def test_the_table_is_that_of_the_lessons() -> None:
    assert lesson_map.in_step(README) == README, "python tools/kit.py map"


def test_a_missing_mark_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Stop, match="once each, around its generated block"):
        lesson_map.in_step(README.replace(lesson_map.END, ""))


def test_sentences_point_to_a_button_that_there_is() -> None:
    """Who can't install is sent to the button of README.md."""
    assert "the button in README.md" in BINDER and "badge_logo.svg)][binder]" in README
    assert BINDER in (ROOT / "tools" / "kit.py").read_text()


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) <= 120


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="the kit is cloned from its repository")
def test_the_first_cell_fetches_the_kit_on_colab(tmp_path: Path) -> None:
    """As on Colab: the module google.colab is there, fnlib is not installed; GitHub is stood in for by this repository."""
    repository, tag = links.published()
    published = tmp_path / "published"
    subprocess.run(["git", "clone", "-q", "--bare", str(ROOT), str(published)], check=True)
    subprocess.run(["git", "tag", tag], cwd=published, check=True)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.{published.as_uri()}.insteadOf",
        "GIT_CONFIG_VALUE_0": f"https://github.com/{repository}",
    }
    there = "import sys, types; sys.modules['google.colab'] = types.ModuleType('google.colab')\n"
    code = there + SETUP_CELL + "\n" + SETUP_CELL + "\nimport fnlib; print(fnlib.__file__)"
    (tmp_path / "content").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path / "content",
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith(str(tmp_path / "content" / "kit"))


def test_the_versions_agree() -> None:
    import fnlib

    assert f'version = "{fnlib.__version__}"' in (ROOT / "pyproject.toml").read_text()
    assert f"version: {fnlib.__version__}\n" in (ROOT / "CITATION.cff").read_text()
