"""Tables of photographs and their levels, written by `estimate` and read by `restore`.

A table is a CSV file with a column "file" and one for each part of the level ("level" if it is a
single number), or a JSON list of objects with the same names. File names are relative to the
table's folder. Empty cells are estimated.
"""

import csv
import io
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from hypernet_jax.errors import UserError
from hypernet_jax.files import local_path, write_atomically
from hypernet_jax.levels import AUTO, Level, LevelRequest, LevelSpace

__all__ = ["place", "read_levels", "write_levels"]

_FILE, _HOW, _LEVEL = "file", "how", "level"


def place(source: Path) -> Path:
    """The path of a photograph, with links of folders resolved, but not that of the file itself."""
    return source.parent.resolve() / source.name


def _columns(space: LevelSpace) -> tuple[str, ...]:
    return space.names if len(space) > 1 else (_LEVEL,)


def write_levels(
    path: str | Path,
    rows: Iterable[tuple[Path, Level, str]],
    space: LevelSpace,
    *,
    overwrite: bool = False,
) -> None:
    """Writes a table.

    Args:
      path: ends in .csv or .json.
      rows: photograph, its level, and how the level was found.
      space: space of the levels.
      overwrite: replace an existing file.
    """
    path = _table(path)
    columns = _columns(space)
    table = [
        {
            _FILE: Path(os.path.relpath(place(source), path.parent.resolve())).as_posix(),
            **{name: round(v, 2) for name, v in zip(columns, level.values, strict=True)},
            _HOW: how,
        }
        for source, level, how in rows
    ]
    if path.suffix.lower() == ".json":
        text = json.dumps(table, indent=2, ensure_ascii=False) + "\n"
    else:
        stream = io.StringIO(newline="")
        writer = csv.DictWriter(stream, [_FILE, *columns, _HOW], lineterminator="\n")
        writer.writeheader()
        writer.writerows(table)
        text = stream.getvalue()
    # JSON has escapes for names that are not UTF-8.
    errors = "backslashreplace" if path.suffix.lower() == ".json" else "strict"
    write_atomically(path, text.encode(errors=errors), overwrite=overwrite)


def read_levels(path: str | Path, space: LevelSpace) -> dict[Path, LevelRequest]:
    """Reads a table: levels by `place` of the photograph.

    Raises:
      UserError: if the table cannot be read, or a row has no file, an invalid level or a repeated
        file; the sentence gives the number of the row.
    """
    path = _table(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise UserError(f"The table {path} cannot be read ({reason}).") from None
    rows = _json_rows(path, text) if path.suffix.lower() == ".json" else _csv_rows(path, text)
    found: dict[Path, LevelRequest] = {}
    for number, row in rows:
        where = f"row {number} of {path}"
        name = row.get(_FILE)
        if not isinstance(name, str) or not name.strip():
            raise UserError(f"There is no file in {where}; fill its column {_FILE}.")
        folder = path.parent.resolve()
        # Spaces around names are a spreadsheet's, unless there is such a file.
        source = place(folder / (name if (folder / name).exists() else name.strip()))
        if source in found:
            raise UserError(f"The file {name} has two rows in {path}; remove one.")
        try:
            found[source] = _request(row, space)
        except UserError as error:
            raise UserError(f"In {where}: {error}") from None
    if not found:
        raise UserError(f"The table {path} has no rows; add one for each photograph.")
    return found


def _request(row: Mapping[str, Any], space: LevelSpace) -> LevelRequest:
    columns = _columns(space)
    unknown = [name for name in row if name not in (*columns, _FILE, _HOW)]
    if unknown:
        raise UserError(
            f"There is no part of the level named {unknown[0]!r}; use the columns "
            f"{', '.join((_FILE, *columns))}, or the task that the table was made for."
        )
    values = [row.get(name) for name in columns]
    given = [AUTO if value is None or not str(value).strip() else value for value in values]
    if len(space) == 1:
        return space.request(given[0])
    return space.request(dict(zip(columns, given, strict=True)))


def _table(path: str | Path) -> Path:
    path = local_path(path)
    if path.suffix.lower() not in (".csv", ".json"):
        raise UserError(f"The table {path.name} must end in .csv or .json; rename it.")
    return path


def _csv_rows(path: Path, text: str) -> list[tuple[int, dict[str, Any]]]:
    table = text.lstrip()
    above = text[: len(text) - len(table)].count("\n")  # empty lines
    # In some locales spreadsheets separate cells by semicolons and use decimal commas.
    semicolons = ";" in table.partition("\n")[0]
    reader = csv.DictReader(io.StringIO(table), delimiter=";" if semicolons else ",")
    columns = [column.strip() for column in reader.fieldnames or ()]
    twice = [column for column in columns if column and columns.count(column) > 1]
    if twice:
        raise UserError(f"The table {path} has two columns {twice[0]!r}; remove one.")
    if columns and _FILE not in columns:
        raise UserError(
            f"The table {path} has no column {_FILE!r}; its first row has {', '.join(columns)}. "
            "Name the columns there, separated by commas or semicolons."
        )
    try:
        rows = [(above + reader.line_num, row) for row in reader]
    except csv.Error as error:
        raise UserError(
            f"The table {path} cannot be read after row {above + reader.line_num} ({error}); look "
            "for a quote that is not closed."
        ) from None
    named = []
    for number, row in rows:
        if any((cell or "").strip() for cell in row.pop(None, ())):
            raise UserError(
                f"Row {number} of {path} has more cells than there are columns; put a cell with a "
                "comma in quotes, and write numbers with a decimal point."
            )
        cells = {key.strip(): value for key, value in row.items()}
        if not (cells.get("") or "").strip():
            cells.pop("", None)  # an empty column, as spreadsheets add them
        if semicolons:
            cells = {
                key: value.replace(",", ".") if value and key not in (_FILE, _HOW) else value
                for key, value in cells.items()
            }
        named.append((number, cells))
    return named


def _json_rows(path: Path, text: str) -> list[tuple[int, dict[str, Any]]]:
    try:
        rows = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"The table {path} is not JSON ({error}).") from None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise UserError(f"The table {path} is not a list of objects.")
    return list(enumerate(rows, start=1))
