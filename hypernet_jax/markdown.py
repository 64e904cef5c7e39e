"""Tables as Markdown."""

from collections.abc import Iterable, Sequence

__all__ = ["table"]


def table(header: Sequence[str], rows: Iterable[Sequence[str]], *, text_columns: int = 0) -> str:
    """A Markdown table: the first `text_columns` are text, the others figures."""
    marks = ["---"] * text_columns + ["---:"] * (len(header) - text_columns)
    return "".join(f"| {' | '.join(line)} |\n" for line in (header, marks, *rows))
