"""Where the kit is published: one place says it, one command writes it into every link."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from tools.say import ROOT, Stop, say

PLACE = ROOT / "pyproject.toml"  # [tool.kit] repository and tag: the one place
FILES = (
    "README.md",
    "docs/*.md",
    "fnlib/teaching/__init__.py",
    "CITATION.cff",
    "lessons/**/*.ipynb",
    "lessons/**/*.md",
    "fnlib/teaching/content/lessons/*.ipynb",
    "fnlib/ledger/doctor/explain.py",
    ".github/actions/*/action.yml",
)


def fill_in(arguments: Sequence[str]) -> int:
    """Replaces owner, repository and tag in every launch link.

    Args:
        arguments: "OWNER/REPO" and a tag or branch, for example ["ada/fnlib-kit", "v1.0"].

    Raises:
        Stop: where they are missing or not what GitHub allows.
    """
    old_repository, old_tag = published()
    if len(arguments) != 2:
        raise Stop(
            f"the links now point to {old_repository} at {old_tag}; to change them: python tools/kit.py links OWNER/REPO TAG"
        )
    repository, tag = arguments
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repository) or not re.fullmatch(r"[\w.-]+", tag):
        raise Stop(
            f"{repository!r} at {tag!r} is not OWNER/REPO and a tag, for example: links ada/fnlib-kit v1.0"
        )
    changed = 0
    for path in [PLACE, *(path for pattern in FILES for path in sorted(ROOT.glob(pattern)))]:
        text = path.read_text(encoding="utf-8")
        new = replaced(text, (old_repository, old_tag), (repository, tag))
        if new != text:
            path.write_text(new, encoding="utf-8", newline="\n")
            changed += 1
    say(f"{changed} files now point to {repository} at {tag}.")
    return 0


def published(place: Path | None = None) -> tuple[str, str]:
    """The repository and the tag that the links point to now."""
    place = place or PLACE
    text = place.read_text(encoding="utf-8")
    repository, tag = (
        re.search(rf'^{key} = "(.+)"$', text, re.MULTILINE) for key in ("repository", "tag")
    )
    if repository is None or tag is None:
        raise Stop(f"{place.name} has no [tool.kit] with a repository and a tag.")
    return repository.group(1), tag.group(1)


def replaced(text: str, old: tuple[str, str], new: tuple[str, str]) -> str:
    """The text with its links moved from one (repository, tag) to another.

    >>> replaced("mybinder.org/v2/gh/OWNER/REPO/TAG?urlpath=lab", ("OWNER/REPO", "TAG"), ("ada/kit", "v1"))
    'mybinder.org/v2/gh/ada/kit/v1?urlpath=lab'
    """
    for separator in ("/", "%2F"):  # a link inside a link is quoted
        was, now = (repository.replace("/", separator) for repository in (old[0], new[0]))
        slash = re.escape(separator)
        # the tag directly behind the repository, or behind blob/, tree/, branch= or pip's @
        between = rf"({slash}(?:(?:blob|tree|raw|archive){slash})?|&branch=|@)"
        text = re.sub(
            rf"{re.escape(was)}{between}{re.escape(old[1])}(?![\w-])", rf"{now}\g<1>{new[1]}", text
        )
        text = re.sub(rf"(?<![\w-]){re.escape(was)}(?![\w-])", now, text)
    site_was, site_now = ("{}.github.io/{}".format(*one[0].split("/")) for one in (old, new))
    text = text.replace(site_was, site_now)
    name_was, name_now = (repository.split("/")[1] for repository in (old[0], new[0]))
    text = re.sub(
        rf"(urlpath=lab%2Ftree%2F){re.escape(name_was)}%2F", rf"\g<1>{name_now}%2F", text
    )  # nbgitpuller's folder
    text = re.sub(
        rf"(--branch[ =]|\"--branch\", \"){re.escape(old[1])}(?![\w.-])", rf"\g<1>{new[1]}", text
    )
    return re.sub(rf'^(tag = "){re.escape(old[1])}"$', rf'\g<1>{new[1]}"', text, flags=re.MULTILINE)
