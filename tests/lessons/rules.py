"""The rules of lessons/AUTHORING.md that a test can hold: each takes a lesson and returns its faults in words."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

from nbformat import NotebookNode

from fnlib import teaching
from fnlib.teaching.exercises import exercises
from fnlib.teaching.questions import questions
from tests.lessons import essay
from tests.lessons.notebooks import (
    FENCE,
    IMAGE,
    INLINE,
    Lesson,
    numbers,
    output_text,
    spoken,
    tagged,
)

LESSONS = Path(__file__).resolve().parents[2] / "lessons"
OBJECTIVES, COSTS = "What you can do afterwards", "What each style costs here"
ORDER = [
    OBJECTIVES,
    "Two machines",
    "Predict",
    "Run it: stock",
    "Run it: functional",
    "Both equal",
    "Investigate",
    "Modify",
    "Decide",
    "Make",
    COSTS,
]
NEEDED = [OBJECTIVES, "Predict", "Modify", COSTS]
# A number in prose that no cell contains, and why it may stand there: (lesson, the words around it) -> reason.
EXEMPT: dict[tuple[str, str], str] = {}

Rule = Callable[[Lesson], Iterator[str]]
RULES: dict[str, Rule] = {}


def rule(check: Rule) -> Rule:
    RULES[check.__name__] = check
    return check


def known(section: str) -> str:
    """The name in ORDER that a heading begins with, or ""."""
    return next(
        (name for name in ORDER if section == name or section.startswith((name + ":", name + ","))),
        "",
    )


@rule
def title(lesson: Lesson) -> Iterator[str]:
    found = [words for level, words in lesson.headings() if level == 1]
    if len(found) != 1:
        yield f"{len(found)} headings of level 1: {found}"
    elif not re.fullmatch(rf"{lesson.number} · \S.*", found[0]):
        yield f"the title is '# {lesson.number} · ...', not '# {found[0]}'"
    elif not lesson.cells[0].source.startswith("# "):
        yield "the first cell begins with the title"


@rule
def heading_levels(lesson: Lesson) -> Iterator[str]:
    level = 0
    for deeper, words in lesson.headings():
        if deeper > level + 1:
            yield f"a level is skipped before '{words}'"
        level = deeper


@rule
def section_tags(lesson: Lesson) -> Iterator[str]:
    for cell in lesson.markdown:
        if re.search(r"^## ", cell.source, re.MULTILINE) and tagged(cell, "core") == tagged(
            cell, "extra"
        ):
            yield f"cell {cell.id}: a section is tagged core or extra"


@rule
def section_order(lesson: Lesson) -> Iterator[str]:
    sections = [known(words) for level, words in lesson.headings() if level == 2]
    places = [ORDER.index(name) for name in sections if name]
    for before, after in zip(places, places[1:], strict=False):
        if after < before:
            yield f"'{ORDER[after]}' comes after '{ORDER[before]}'"
    missing = [name for name in NEEDED if name not in sections]
    if missing:
        yield f"no section {missing}"


@rule
def ending(lesson: Lesson) -> Iterator[str]:
    """Recap in three lines, further reading, and the exit question as the last cell of code."""
    recap = re.search(r"^\*\*Recap\.\*\*(.*?)(?=\n\n\S|\Z)", lesson.text, re.MULTILINE | re.DOTALL)
    if recap is None:
        yield "no **Recap.**"
    else:
        text = INLINE.sub("x", recap.group(1)).strip()
        lines = re.findall(r"^[-*] ", text, re.MULTILINE) or re.findall(r"[.!?](?=\s|$)", text)
        if len(lines) != 3:
            yield f"the recap has {len(lines)} lines, not 3"
    if "**Further reading.**" not in lesson.text:
        yield "no **Further reading.**"
    if f'teaching.predict("{lesson.number[:2]}-exit")' not in lesson.code[-1].source:
        yield "the last cell of code asks no exit question"


@rule
def taught(lesson: Lesson) -> Iterator[str]:
    """Three questions to investigate with their answers folded below, something to make, a decision. Not in the museum: it has exhibits."""
    if lesson.number.startswith("09"):
        return
    part = re.split(r"^## Investigate", lesson.text, flags=re.MULTILINE)
    if len(part) != 2 or re.findall(r"^(\d)\. ", part[1].split("\n## ")[0], re.MULTILINE) != [
        "1",
        "2",
        "3",
    ]:
        yield "'## Investigate' has the questions 1, 2 and 3"
    if not re.search(r"^## Make", lesson.text, re.MULTILINE):
        yield "no '## Make'"
    folded = re.search(r"<details>.*?</details>", part[-1].split("\n## ")[0], re.DOTALL)
    if folded is None or not all(f"**{number}.**" in folded.group() for number in (1, 2, 3)):
        yield "'## Investigate' has the answers **1.**, **2.** and **3.** in <details>"
    if not re.search(r"^## Decide: ", lesson.text, re.MULTILINE):
        yield "no '## Decide: ...'"
    if "You may think" in lesson.text or "not so:" in lesson.text:
        yield "a belief is refuted by the old formula: say what is so"


@rule
def size(lesson: Lesson) -> Iterator[str]:
    # Lesson 09 is six small lessons: each of its exhibits has a story, a loop, and a row with its cure.
    # Each of its two exercises has its text right above its cell.
    limit = 29 if lesson.number.startswith("09") else 25
    if len(lesson.cells) > limit:
        yield f"{len(lesson.cells)} cells, at most {limit}"
    for cell in lesson.code:
        lines = cell.source.splitlines()
        if len(lines) > 15:
            yield f"cell {cell.id} has {len(lines)} lines"
        yield from (
            f"cell {cell.id} has a line of {len(line)} characters"
            for line in lines
            if len(line) > 100
        )


@rule
def alternative_text(lesson: Lesson) -> Iterator[str]:
    for alt, target in IMAGE.findall(lesson.text):
        if len(alt.split()) < 5:
            yield f"the picture {target} has no text that says what it shows"
    for image in re.findall(r"<img\b[^>]*>", lesson.text):
        if not re.search(r'\balt="[^"]{20,}"', image):
            yield f"{image[:60]} has no text that says what it shows"
    for _, name, call in lesson.calls():
        if name == "show" and not any(
            word.arg == "alt" and ast.unparse(word.value).strip("'\"") for word in call.keywords
        ):
            yield f"no alt= in {ast.unparse(call)}"


@rule
def plain_file(lesson: Lesson) -> Iterator[str]:
    """Nothing of a machine in the file: no widget state, no attachment, no picture in the text, no absolute path."""
    if "widgets" in lesson.notebook.metadata:
        yield "the file holds the state of widgets"
    for cell in lesson.cells:
        text = cell.source + output_text(cell)
        if cell.get("attachments") or "data:image" in text:
            yield f"cell {cell.id} holds a picture"
        for path in re.findall(
            r"(?<![\w.:/])/(?:home|Users|root|tmp|var|opt|mnt|usr|work)/\S*|\b[A-Z]:\\\S*|\bfile:/\S*",
            text,
        ):
            yield f"cell {cell.id} holds the path {path}"


@rule
def stored_outputs(lesson: Lesson) -> Iterator[str]:
    """Otherwise nbval runs a cell and compares nothing, and the tag is a promise that nobody keeps."""
    for cell in lesson.code:
        if tagged(cell):
            if cell.execution_count is None:
                yield f"cell {cell.id} is tagged and has no execution_count: nbval compares nothing"
            if not output_text(cell).strip():
                yield f"cell {cell.id} is tagged and stores no text"
        elif cell.outputs or cell.execution_count is not None:
            yield f"cell {cell.id} is not tagged and stores an output"


@rule
def checks_compared(lesson: Lesson) -> Iterator[str]:
    """Otherwise a solution that its check no longer takes runs on, and nobody hears of it. (Lesson 09 names its check by what is asked.)"""
    for cell in lesson.code:
        if (
            "teaching.check(" in cell.source
            and not lesson.number.startswith("09")
            and not tagged(cell)
        ):
            yield f"cell {cell.id} checks an answer, and its output is not compared"


@rule
def cell_ids(lesson: Lesson) -> Iterator[str]:
    ids = [cell.id for cell in lesson.cells]
    yield from (
        f"two cells are called {id}" for id in sorted({id for id in ids if ids.count(id) > 1})
    )
    yield from (
        f"{id} is no short word"
        for id in ids
        if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+){0,3}", id) or len(id) > 24
    )


@rule
def minutes(lesson: Lesson) -> Iterator[str]:
    about = lesson.notebook.metadata.get("lesson", {})
    if about.get("number") != lesson.number:
        yield f"metadata say lesson {about.get('number')}"
    whole, core = about.get("minutes", 0), about.get("core", 0)
    if not 0 < core <= 0.6 * whole:
        yield f"{core} of {whole} minutes are core, at most 60 %"
    words = read_words(lesson)
    if whole != -(-sum(words.values()) // 125) * 5:
        yield f"{sum(words.values())} words are read at 25 a minute, rounded up to 5 minutes"
    if words["core"] > 0.6 * sum(words.values()) or core < words["core"] / 25:
        yield f"{words['core']} of {sum(words.values())} words are core, at most 60 %"
    said = re.search(r"(\d+) minutes.*?(\d+) of them", lesson.cells[0].source)
    if said is None or (int(said.group(1)), int(said.group(2))) != (whole, core):
        yield f"the first cell says '{whole} minutes, {core} of them core'"


@rule
def short_path(lesson: Lesson) -> Iterator[str]:
    """Whoever is short of time skips extra sections and no core one, and nothing that isn't there."""
    found = re.search(r"Short of time\? (.*)", lesson.cells[0].source)
    skip, _, stop = (found.group(1) if found else "").partition("top after ")
    tag = {
        words.replace("`", ""): tagged(cell, "extra")
        for cell in lesson.markdown
        for words in re.findall(r"^#+ (.+)$", cell.source, re.MULTILINE)
    }
    for name in re.findall(r'"([^"]+)"', skip + stop):
        extra = next((tag[words] for words in tag if words.startswith(name)), None)
        if extra is None:
            yield f"no section is called '{name}'"
        elif skip.startswith("Skip ") and name in skip and not extra:
            yield f"'{name}' is core, and whoever is short of time skips it"
    if "Go from" in skip:
        yield "'Go from' is read as 'do all from there on': say what to skip"


# The museum's table is there to look things up.
CATALOGUE = re.compile(r"<!-- museum: .*?<!-- end of museum -->", re.DOTALL)


def read_words(lesson: Lesson) -> dict[str, int]:
    """The words of the prose, in core and extra sections; a cell without a section goes on with the one before."""
    words, tag = {"core": 0, "extra": 0}, "core"
    for cell in lesson.markdown:
        tag = next((each for each in words if tagged(cell, each)), tag)
        text = re.sub(r"<[^>]+>", " ", spoken(FENCE.sub("", CATALOGUE.sub("", cell.source))))
        words[tag] += len(re.findall(r"[A-Za-z0-9]\S*", text))
    return words


@rule
def set_up(lesson: Lesson) -> Iterator[str]:
    first = lesson.code[0]
    if first.source != teaching.SETUP_CELL or first.id != "setup":
        yield "the first cell of code is the set-up cell, the same in every lesson"
    if not first.metadata.get("jupyter", {}).get("source_hidden"):
        yield "the set-up cell is folded: one line of it is in sight"


@rule
def keys(lesson: Lesson) -> Iterator[str]:
    """Checks and questions have their records; a question is asked before it is answered; no record is left out."""
    asked, answered, checked = (lesson.keys(name) for name in ("predict", "reveal", "check"))
    yield from (f"no exercise is called {key}" for _, key in checked if key not in exercises())
    yield from (
        f"no question is called {key}" for _, key in asked + answered if key not in questions()
    )
    first = {key: index for index, key in reversed(asked)}
    yield from (
        f"{key} is answered before it is asked"
        for index, key in answered
        if index <= first.get(key, len(lesson.cells))
    )
    shown = {key for _, key in answered}
    for key, row in questions().items():
        if key in first and row.kind == "predict" and key not in shown:
            yield f"{key} is asked and never answered"
        if row.kind == "predict" and row.lesson == lesson.number and key not in first:
            yield f"{key} is a prediction of this lesson and is not asked"
    done = {key for _, key in checked}
    yield from (
        f"{key} is in the table and not in the lesson"
        for key in exercises()
        if key.split("-")[0] == lesson.number and key not in done
    )


@rule
def links(lesson: Lesson) -> Iterator[str]:
    """From where the lesson lies and from where its student edition lies."""
    targets = re.findall(r"\]\(([^)\s]+)\)", lesson.text) + re.findall(
        r"(?:src|href)=\"([^\"]+)\"", lesson.text
    )
    for link in targets:
        if re.match(r"[a-z]+:", link):
            parts = urlsplit(link)
            if parts.scheme != "https" or not re.fullmatch(r"[\w-]+(\.[\w-]+)+", parts.netloc):
                yield f"{link} is no address of the web"
            continue
        from_student = LESSONS / link.removeprefix("../")
        for file in (lesson.folder / link, from_student):
            path = Path(unquote(str(file).split("#")[0]))
            if not path.is_file():
                yield f"{link} leads nowhere from {file.parent}"
            elif "#" in link and path.suffix == ".md" and link.split("#")[1] not in anchors(path):
                yield f"{path.name} has no heading #{link.split('#')[1]}"


def anchors(path: Path) -> set[str]:
    found = re.findall(r"^#+ +(.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", words.strip().lower()).replace(" ", "-") for words in found}


@rule
def measured(lesson: Lesson) -> Iterator[str]:
    """A decimal, a percentage, a multiple, a size or a time in prose stands in a cell too: in code or in a compared output."""
    shown = numbers("\n".join(cell.source + "\n" + output_text(cell) for cell in lesson.code))
    quoted = r"(?<![\w.])(\d+(?:,\d{3})*(?:\.\d+)?)( ?%| times\b| ?[MGK]i?B\b| ?(?:ms|µs|us|s|seconds)\b)?(?![\w])"
    for found in re.finditer(quoted, lesson.prose):
        number, unit = float(found.group(1).replace(",", "")), (found.group(2) or "").strip()
        around = lesson.prose[max(0, found.start() - 30) : found.end() + 30]
        exempt = any(name == lesson.number and words in around for name, words in EXEMPT)
        if (
            (unit or "." in found.group(1))
            and not exempt
            and not {number, number / 100 if unit == "%" else number} & shown
        ):
            yield f"no cell shows {found.group().strip()}: '...{' '.join(around.split())}...'"


# A word of the glossary that is used in another sense; "name" is a verb as often as not.
EVERYDAY = (
    r"\b(?:names?|named|naming|(?:at|for) (?:the right|that|a) moment|(?:three|these) moments with"
    r"|in places|in place of|each in its place)\b"
)
# What is no running text: code, pictures, headings, tables, names of sections, titles of other pages, what stands after the recap.
NO_PROSE = re.compile(
    r"^```.*?^```[^\n]*$|!\[[^\]]*\]\([^)]*\)|`[^`\n]*`(?!\]\([^)]*glossary)|^(?:#+ |\|)[^\n]*$|\"Run it: [^\"]*\""
    r"|\[[^\]]*\]\((?![^)]*glossary\.md#)[^)]*\)|\]\([^)]*\)|^\*\*Further reading\.\*\*.*|" + EVERYDAY,
    re.MULTILINE | re.DOTALL | re.IGNORECASE)  # fmt: skip
FORMS = {"bind": "binds?", "rebind": "rebinds?|rebound", "donation": "donations?|donated?", "truncation": "truncations?|truncated?",
         "clone": "clones?", "detach": "detach(?:ed|es)?", "accumulate": "accumulates?|accumulated"}  # fmt: skip


def running_text(source: str) -> str:
    """A cell's text with all that is no running text blanked out, each character in its place."""
    return NO_PROSE.sub(lambda found: re.sub(r"[^\n]", " ", found.group()), source)


def glossary_words() -> dict[str, re.Pattern[str]]:
    """Each word of the glossary, and the forms in which a lesson may use it: one or several, and those of FORMS."""
    words = re.findall(
        r"^## (.+)$", (LESSONS / "glossary.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    forms = {
        word: FORMS.get(word, re.escape(word.removesuffix("s")) + "(?:s|es)?") for word in words
    }
    return {
        word: re.compile(rf"(?<![\w-])(?:{form})(?![\w-])", re.IGNORECASE)
        for word, form in forms.items()
    }


def first_use(lesson: Lesson, form: re.Pattern[str]) -> tuple[NotebookNode, re.Match[str]] | None:
    """The cell and the place of a word's first use below the objectives, which only announce what comes."""
    return next(
        (
            (cell, found)
            for cell in lesson.markdown[1:]
            if (found := form.search(running_text(cell.source)))
        ),
        None,
    )


def linked(cell: NotebookNode, found: re.Match[str]) -> bool:
    links = re.finditer(r"\[[^\]]*\]\([^)]*glossary\.md#[^)]*\)", cell.source)
    return any(link.start() < found.start() < link.end() for link in links)


@rule
def glossary(lesson: Lesson) -> Iterator[str]:
    """A word of the glossary is a link the first time that a lesson uses it; the museum comes after all of them, in any order."""
    if lesson.number.startswith("09"):
        return
    for word, form in glossary_words().items():
        use = first_use(lesson, form)
        if use and not linked(*use):
            cell, found = use
            around = " ".join(cell.source[max(0, found.start() - 30) : found.end() + 20].split())
            yield f"cell {cell.id}: '{word}' is not linked where it is first used: '...{around}...'"


@rule
def own_words(lesson: Lesson) -> Iterator[str]:
    comments = "\n".join(
        re.findall(r"#(.*)$", "\n".join(cell.source for cell in lesson.code), re.MULTILINE)
    )
    yield from (
        f"the essay's words: {run}" for run in essay.shared(lesson.text) + essay.shared(comments)
    )


@rule
def renders_offline(lesson: Lesson) -> Iterator[str]:
    if re.search(r"\$\$|\\\(|\\\[|(?<!\\)\$[^$\n]+\$", INLINE.sub("", lesson.text)):
        yield "a formula in LaTeX: the offline pages have no engine for it"
    yield from (
        f"cell {cell.id} calls plt.show()" for cell in lesson.code if "plt.show(" in cell.source
    )
