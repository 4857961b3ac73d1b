"""Tables on disk as manifests are kept: named columns of text, CSV or Parquet by the file's ending."""

from __future__ import annotations

import codecs
import csv
import io
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

from jcs_ct.errors import ConfigError, MissingExtraError
from jcs_ct.files import replacing, write_text

#: Endings that mean Parquet; every other is read as CSV.
PARQUET_SUFFIXES = (".parquet", ".pq")

#: What may stand between the cells of a CSV; the one that the head line has most of does.
SEPARATORS = (",", ";", "\t")

#: How files of Excel (since 2007) and LibreOffice, which are ZIP archives, and of older Excel begin.
_WORKBOOK = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")

Cell = str | int | float | None


@dataclass(frozen=True)
class TextTable:
    """A table as it was read; a cell that is absent is empty, blanks around a cell are gone.

    Args:
        columns: Names in order, in small letters.
        rows: (where it stands, as ``line 7``; text by column).
        problems: Lines whose cells cannot be told apart; they are not among the rows.
        note: How the text was decoded, where it is not UTF-8 or UTF-16.
        headings: Columns as they were typed, by their name.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[str, Mapping[str, str]], ...]
    problems: tuple[str, ...] = ()
    note: str = ""
    headings: Mapping[str, str] = field(default_factory=dict)

    def typed(self, column: str) -> str:
        """A column's heading, as it was typed."""
        return self.headings.get(column, column)

    def __iter__(self) -> Iterator[tuple[str, Mapping[str, str]]]:
        return iter(self.rows)


def is_parquet(path: Path) -> bool:
    """Whether a table of this name is Parquet."""
    return path.suffix.lower() in PARQUET_SUFFIXES


def read_table(path: Path, *, what: str = "manifest", may_be_foreign: bool = False) -> TextTable:
    """Read CSV (cells parted by commas, semicolons or tabs; UTF-8, or UTF-16 with its mark) or Parquet.

    Args:
        path: Its ending says which.
        what: The table's name in errors.
        may_be_foreign: Whether bytes that are no UTF-8 are read as Windows-1252, as spreadsheets of Western Europe
            write them; the table's note says so.

    Raises:
        ConfigError: it cannot be read, a column stands twice, or Parquet without the extra ``parquet``.
    """
    table = _read_parquet(path, what) if is_parquet(path) else _read_csv(path, what, may_be_foreign)
    twice = sorted(name for name, count in Counter(table.columns).items() if name and count > 1)
    if twice:
        raise ConfigError(f"the {what} {path} has the column(s) {', '.join(twice)} twice; keep one of each")
    return table


def _read_csv(path: Path, what: str, may_be_foreign: bool) -> TextTable:
    text, note = _decoded(path, what, may_be_foreign)
    first, _, rest = text.partition("\n")
    skipped = 0
    if first.strip().lower().startswith("sep="):  # a spreadsheet's note to itself
        text, skipped, first = rest, 1, rest.partition("\n")[0]
    separator = max(SEPARATORS, key=first.count)
    reader = csv.reader(io.StringIO(text), delimiter=separator, skipinitialspace=True, strict=True)
    columns: tuple[str, ...] | None = None
    headings: dict[str, str] = {}
    rows: list[tuple[str, Mapping[str, str]]] = []
    problems: list[str] = []
    begins = 1 + skipped
    try:
        for cells in reader:
            where, begins = f"line {begins}", reader.line_num + skipped + 1
            values = [cell.strip() for cell in cells]
            if not any(values):
                continue
            if columns is None:
                columns, headings = (
                    tuple(value.lower() for value in values),
                    {value.lower(): value for value in values},
                )
            elif len(values) == len(columns):
                rows.append((where, dict(zip(columns, values, strict=True))))
            else:
                problems.append(f"{where}: has {len(values)} cell(s), the head line has {len(columns)}")
    except csv.Error as error:
        problems.append(f"line {begins}: a quote is not closed, or stands inside a cell ({error})")
    return TextTable(columns or (), tuple(rows), tuple(problems), note, headings)


def _decoded(path: Path, what: str, may_be_foreign: bool) -> tuple[str, str]:
    """The text of a CSV with newlines as ``\\n``, and a note where it is neither UTF-8 nor UTF-16."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot read the {what} {path}: {error.strerror}") from error
    if data.startswith(_WORKBOOK):
        raise ConfigError(f"the {what} {path} is a spreadsheet's own file; save it as CSV (UTF-8) and give that")
    note = ""
    encoding = "utf-16" if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        if not may_be_foreign or b"\0" in data:
            why = f"{error.reason} at byte {error.start}"
            raise ConfigError(f"the {what} {path} is no CSV in UTF-8 ({why}); save it as CSV (UTF-8)") from error
        text = data.decode("cp1252", errors="replace")
        note = (
            f"{path.name} is no UTF-8 and was read as Windows-1252; where letters are wrong, save it as CSV (UTF-8)"
        )
    return text.replace("\r\n", "\n").replace("\r", "\n"), note


def write_table(path: Path, columns: Mapping[str, type], rows: Sequence[Mapping[str, Cell]]) -> None:
    """Write rows as CSV or Parquet, whole or not at all.

    Args:
        path: Its ending says which.
        columns: Type (``str``, ``int`` or ``float``) by name, in order; CSV has text only.
        rows: Cells by column; None is empty.

    Raises:
        ConfigError: Parquet without the extra ``parquet``.
        OutputError: the file cannot be written.
    """
    if is_parquet(path):
        _write_parquet(path, columns, rows)
    else:
        write_text(path, csv_text(columns, rows))


def csv_text(columns: Iterable[str], rows: Iterable[Mapping[str, Cell]]) -> str:
    """The rows as CSV with a head line."""
    text = io.StringIO()
    names = list(columns)
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    writer.writerows(["" if row[name] is None else str(row[name]) for name in names] for row in rows)
    return text.getvalue()


def _read_parquet(path: Path, what: str) -> TextTable:
    arrow, parquet = _arrow(path)
    try:
        with path.open("rb") as stream:
            table = parquet.read_table(stream)
    except arrow.ArrowException as error:
        raise ConfigError(f"the {what} {path} is no Parquet file that can be read: {error}") from error
    except OSError as error:
        raise ConfigError(f"cannot read the {what} {path}: {error.strerror or error}") from error
    columns = tuple(str(name).strip().lower() for name in table.column_names)
    texts = [[_text(value).strip() for value in column.to_pylist()] for column in table.columns]
    rows = enumerate(zip(*texts, strict=True), start=1)
    return TextTable(columns, tuple((f"row {n}", dict(zip(columns, values, strict=True))) for n, values in rows))


def _text(value: object) -> str:
    """A cell as CSV would have it: data frames keep whole numbers with gaps as floats, and gaps as NaN."""
    if value is None or value != value:
        return ""
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return value.decode() if isinstance(value, bytes) else str(value)


def _write_parquet(path: Path, columns: Mapping[str, type], rows: Sequence[Mapping[str, Cell]]) -> None:
    arrow, parquet = _arrow(path)
    kinds = {str: arrow.string(), int: arrow.int64(), float: arrow.float64()}
    schema = arrow.schema([(name, kinds[kind]) for name, kind in columns.items()])
    # An empty text and an absent one are one thing in CSV, so they are here.
    content = [{name: None if row[name] == "" else row[name] for name in columns} for row in rows]
    with replacing(path) as temporary:
        parquet.write_table(arrow.Table.from_pylist(content, schema=schema), temporary)


def _arrow(path: Path) -> tuple[ModuleType, ModuleType]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"{path}: Parquet", "parquet", instead="use CSV, which has the same columns"
        ) from error
    return pyarrow, pyarrow.parquet
