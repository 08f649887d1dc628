"""All questions: those that the lessons ask, and those that only teachers need.

The files of this folder are not installed with the package: `NN.toml` has a lesson's questions for the room and the exam,
`pre.toml` the eight before the course.
"""

from __future__ import annotations

import zlib
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from fnlib.teaching import questions as lessons
from fnlib.teaching import records
from fnlib.teaching.questions import Question

COURSE = Path(__file__).parents[1]


@lru_cache(maxsize=1)
def questions() -> dict[str, Question]:
    """Read all questions, in the order of the lessons; in each, those that the lesson asks come first.

    Raises:
        records.ContentError: a file has a mistake; the message says where.

    Example:
        >>> [key for key in questions() if key.startswith("00-")]
        ['00-best', '00-review', '00-exit', '00-bank-alias', '00-bank-detach']
    """
    rows = [*lessons.questions().values(), *map(spread, lessons.read(COURSE))]
    rows.sort(key=lambda row: (row.lesson != "pre", row.lesson))
    return records.by("key", rows, "questions")


def spread(row: Question) -> Question:
    """Rotate the options of a question, so that each letter is right somewhere.

    The key alone says how far, so a new question doesn't move the options of others.
    """
    count = len(row.options)
    turn = zlib.crc32(row.key.encode()) % count
    options = row.options[turn:] + row.options[:turn]
    return replace(row, options=options, right=(row.right - turn) % count)
