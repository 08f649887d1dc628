"""One command points every launch link to where the kit is published."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from course import links
from tools.say import ROOT, Stop

TEXT = """
[binder]: https://mybinder.org/v2/gh/OWNER/REPO/TAG?urlpath=lab/tree/lessons/00_x.ipynb
[colab]: https://colab.research.google.com/github/OWNER/REPO/blob/TAG/lessons/00_x.ipynb
[hub]: https://HUB/hub/user-redirect/git-pull?repo=https%3A%2F%2Fgithub.com%2FOWNER%2FREPO&branch=TAG&urlpath=lab%2Ftree%2FREPO%2Flessons
git clone --branch TAG https://github.com/OWNER/REPO
pip install "fnlib @ git+https://github.com/OWNER/REPO@TAG"
subprocess.run(["git", "clone", "--branch", "TAG", "https://github.com/OWNER/REPO"])
https://OWNER.github.io/REPO/findings/tie-lost.html
TAG and OWNER in ordinary text; OWNER/REPOSITORY is another one.
"""


def test_every_form_of_link_is_moved_and_can_be_moved_again() -> None:
    moved = links.replaced(TEXT, ("OWNER/REPO", "TAG"), ("ada/kit", "v1.0"))
    assert moved.count("ada/kit") == 5 and moved.count("ada%2Fkit") == 1
    assert len(re.findall(r"v1\.0", moved)) == 6 and "tree%2Fkit%2Flessons" in moved
    assert "TAG and OWNER in ordinary text; OWNER/REPOSITORY is another one." in moved
    assert "https://ada.github.io/kit/findings/tie-lost.html" in moved
    assert links.replaced(moved, ("ada/kit", "v1.0"), ("OWNER/REPO", "TAG")) == TEXT


def test_the_command_changes_the_one_place_and_the_links(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(links, "ROOT", tmp_path)
    monkeypatch.setattr(links, "PLACE", tmp_path / "pyproject.toml")
    (tmp_path / "pyproject.toml").write_text('[tool.kit]\nrepository = "OWNER/REPO"\ntag = "TAG"\n')
    (tmp_path / "README.md").write_text(TEXT)
    assert links.fill_in(["ada/kit", "v1.0"]) == 0
    assert links.published(tmp_path / "pyproject.toml") == ("ada/kit", "v1.0")
    assert "mybinder.org/v2/gh/ada/kit/v1.0?" in (tmp_path / "README.md").read_text()
    with pytest.raises(Stop, match="the links now point to ada/kit at v1.0"):
        links.fill_in([])
    with pytest.raises(Stop, match="is not OWNER/REPO and a tag"):
        links.fill_in(["https://github.com/ada/kit", "v1.0"])


def test_no_link_of_the_kit_points_elsewhere() -> None:
    """Each launch link names the published repository and tag, so that the command reaches all of them."""
    repository, tag = links.published()
    launch = re.compile(r"(?:mybinder\.org/v2/gh/|colab\.research\.google\.com/github/)[^\s)\"\\]+")
    right = (f"gh/{repository}/{tag}?", f"github/{repository}/blob/{tag}/")
    for path in (path for pattern in links.FILES for path in ROOT.glob(pattern)):
        strays = [
            link
            for link in launch.findall(path.read_text(encoding="utf-8"))
            if not any(part in link for part in right)
        ]
        assert not strays, path
