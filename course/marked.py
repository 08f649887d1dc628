"""Replace what is generated in a page that is otherwise written by hand: the block between its two marks."""

from __future__ import annotations


def with_block(text: str, begin: str, end: str, block: str, page: str) -> str:
    r"""Replace the block between two marks.

    Args:
        text: the page.
        begin: the mark above the block; a comment that names the command.
        end: the mark below it.
        block: what stands between them from now on.
        page: the page's name, for the error.

    Returns:
        The page with its new block.

    Raises:
        ValueError: the marks are not there, once each.

    Example:
        >>> with_block("a\n<!-- x -->\nold\n<!-- end -->\nb", "<!-- x -->", "<!-- end -->", "new", "page.md")
        'a\n<!-- x -->\nnew\n<!-- end -->\nb'
    """
    if text.count(begin) != 1 or text.count(end) != 1:
        raise ValueError(f"{page} needs {begin} and {end}, once each, around its generated block.")
    before, rest = text.split(begin)
    return f"{before}{begin}\n{block}\n{end}{rest.split(end)[1]}"
