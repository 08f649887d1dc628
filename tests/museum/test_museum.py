"""Every exhibit is reproduced, found and cured; the table drives all of it, so that a new exhibit is one file and one row."""

from __future__ import annotations

import warnings

import pytest
import torch

import fnlib
from fnlib.ledger.findings.texts import TEXTS
from fnlib.teaching import museum
from fnlib.teaching.museum import EXHIBITS, FUNCTIONAL, LOOPS, ROOMS, SOURCES, Exhibit
from tests.museum.load import CORRECT, load, recorded, standing

STOCK = [one for one in EXHIBITS if not one.functional]
SILENT = [one for one in STOCK if one.today == "silent"]
each = pytest.mark.parametrize("one", EXHIBITS, ids=lambda one: one.code)


# --- reproduced ------------------------------------------------------------------------------------


def runs(one: Exhibit, name: str) -> tuple[BaseException | None, list[str]]:
    """Run an exhibit as it is: what it raises, and what it warns of."""
    module = load(one.file)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            getattr(module, name)(**module.setup())
        except RuntimeError as error:
            return error, [str(warning.message) for warning in caught]
    return None, [str(warning.message) for warning in caught]


@each
def test_the_bug_is_as_loud_as_the_table_says(one: Exhibit) -> None:
    error, warned = runs(one, "bug")
    today = "raises" if error is not None else "warns" if warned else "silent"
    assert today == one.today, (
        f"{one.title}: the table says that PyTorch is '{one.today}' about this bug, and PyTorch {torch.__version__} '{today}'. "
        f"{'It has been made loud: good news. ' if one.today == 'silent' else ''}"
        f'Set today = "{today}" for {one.code} in fnlib/teaching/content/museum.toml, and read its lesson again. '
        f"({error or warned or 'nothing said'})"
    )


@each
def test_the_cure_says_nothing(one: Exhibit) -> None:
    assert runs(one, "cure") == (None, [])


@pytest.mark.parametrize("one", [one for one in EXHIBITS if one.harm], ids=lambda one: one.code)
def test_the_harm_is_what_the_table_says(one: Exhibit) -> None:
    module = load(one.file)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        measured = module.harm(module.bug), module.harm(module.cure)
    assert measured == pytest.approx(one.harm, rel=1e-3), module.harm.__doc__
    assert one.harm[0] != one.harm[1]


# --- found -----------------------------------------------------------------------------------------


@each
def test_the_ledger_finds_the_bug_and_leaves_the_cure_in_peace(one: Exhibit) -> None:
    """The whole column: what the ledger finds in a recording of the loop, and nothing in the cure's."""
    module = load(one.file)
    sick, well = recorded(module, module.bug).findings, recorded(module, module.cure).findings
    codes = {finding.code for finding in sick}
    assert (one.finding in codes or one.functional and not one.finding) and codes <= {
        one.finding,
        one.standing,
    }, f"{one.title}: the ledger found {[str(finding) for finding in sick]}"
    assert not well, (
        f"{one.title}: the cured loop is said to be ill: {[str(finding) for finding in well]}"
    )
    for finding in sick:
        assert finding.line and finding.place and finding.what and finding.why and finding.fix


@each
def test_the_doctor_sees_it_without_a_recording(one: Exhibit) -> None:
    """The whole column: what `fnlib.doctor` reports on the loop's variables and not on the cure's."""
    module = load(one.file)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sick, well = (
            {finding.code for finding in fnlib.doctor(**standing(module, run))}
            for run in (module.bug, module.cure)
        )
    assert sick - well == ({one.standing} if one.standing else set())


def test_headline(capsys: pytest.CaptureFixture[str]) -> None:
    """Both numbers of the museum, printed: silent bugs found, and certain findings on correct loops."""
    from fnlib.ledger.doctor.script import main

    found = 0
    for one in SILENT:
        module = load(one.file)
        found += one.finding in {finding.code for finding in recorded(module, module.bug).findings}
    alarms = sum(main([str(path)]) != 0 for path in CORRECT)
    capsys.readouterr()
    with capsys.disabled():
        print(
            f"\nmuseum: {found} of {len(SILENT)} silent bugs found, {alarms} false alarms on {len(CORRECT)} correct loops"
        )
    assert found == len(SILENT) >= 20
    assert alarms == 0 and len(CORRECT) >= 14


def test_a_result_that_goes_nowhere_is_found_in_fnlib() -> None:
    module = load(museum.exhibit("result_ignored").file)
    assert {finding.code for finding in recorded(module, module.in_fnlib).findings} == {
        "result-ignored"
    }


# --- the table -------------------------------------------------------------------------------------


def test_every_file_has_a_row_and_every_row_a_file() -> None:
    files = {
        path.stem
        for folder in ("bugs", "functional_bugs")
        for path in (LOOPS / folder).glob("*.py")
    }
    assert files == {one.code for one in EXHIBITS}
    assert len({one.code for one in EXHIBITS}) == len(EXHIBITS)


def test_the_museum_is_as_large_as_was_promised() -> None:
    assert (
        len(SILENT) >= 20
        and sum(one.functional for one in EXHIBITS) >= 6
        and sorted(one.core for one in EXHIBITS if one.core) == [1, 2, 3, 4, 5, 6]
    )
    assert {one.room for one in EXHIBITS} == set(ROOMS) and ROOMS[-len(FUNCTIONAL) :] == FUNCTIONAL


def test_every_source_is_used_and_every_link_is_a_source() -> None:
    """Some exhibit uses each source, and every link of a finding is a source."""
    used = {name for one in EXHIBITS for name in one.sources + one.related}
    assert used == set(SOURCES)
    addresses = [page.address for page in SOURCES.values()]
    for code, text in TEXTS.items():
        assert not text.link or any(
            one.startswith(text.link) or "discuss.pytorch.org" in text.link for one in addresses
        ), code


def test_every_finding_has_an_exhibit() -> None:
    translated = museum.exhibit("result_ignored").file
    in_fnlib = recorded(load(translated), load(translated).in_fnlib).findings
    codes = {one.finding for one in EXHIBITS if one.finding}
    assert {code for code, text in TEXTS.items() if text.what} == codes | {
        finding.code for finding in in_fnlib
    }


@each
def test_the_source_of_an_exhibit_can_be_shown(one: Exhibit) -> None:
    for part in ("setup", "bug", "cure"):
        assert museum.source(one.code, part).startswith(f"def {part}(")
    assert len(museum.source(one.code).splitlines()) <= 25
    with pytest.raises(KeyError, match="has no 'nothing'"):
        museum.source(one.code, "nothing")
    assert all(link.startswith("https://") and says for link, says in one.links)


def test_an_exhibit_that_there_is_not() -> None:
    with pytest.raises(KeyError, match="no exhibit 'x'"):
        museum.exhibit("x")
