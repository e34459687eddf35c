"""Parquet tables with columns of pictures, as data sets of Hugging Face have them: bytes, or {bytes, path}.

A picture is a member named ROW/COLUMN; rows, their order, all other columns and what the schema says are kept. A
picture that fails becomes null in its row. Rows are read a few at a time, and row groups are written as they were.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from deidcli.engine.archives import LARGEST, Archive, Entry, Rewriter
from deidcli.errors import MediaError

ROWS = 16  # that are read at a time
HELD = 8  # readings that are kept: threads read a little ahead of each other
GROUP = 256 << 20  # bytes after which a row group is closed though the one that was read is longer
_DIGITS = 9  # of a row's number in a name


class Parquet(Archive):
    """A table. columns: those that hold pictures; others that hold bytes have to be named or allowed (`lenient`)."""

    def _begin(self) -> None:
        super()._begin()
        self._clear()

    def _clear(self) -> None:
        self._file: pq.ParquetFile | None = None
        self._batches: Iterator[tuple[int, pa.RecordBatch]] = iter(())
        self._held: list[tuple[int, pa.RecordBatch]] = []

    @property
    def file(self) -> pq.ParquetFile:
        """The opened table."""
        if self._file is None:
            self._file = pq.ParquetFile(self.local, memory_map=False)
        return self._file

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
        self._clear()
        super().close()

    def _check_columns(self) -> None:
        schema = self.file.schema_arrow
        for name in self.columns:
            if schema.get_field_index(name) < 0:
                raise MediaError(f"it has no column {name!r}", f"there are {', '.join(schema.names)[:200]}")
            if not _holds_bytes(schema.field(name).type):
                raise MediaError(f"its column {name!r} holds no pictures", "name one of bytes, or of {bytes, path}")
        others = [field.name for field in schema if field.name not in self.columns and _mentions_bytes(field.type)]
        if others and not self.lenient:
            said = f"its column {others[0]!r} holds bytes, too, and could show faces"
            raise MediaError(said, f"give --column {others[0]} for pictures, or --unknown copy to keep such columns")
        meta = self.file.metadata
        for group in range(meta.num_row_groups):
            if meta.row_group(group).total_byte_size > LARGEST:
                raise MediaError("it holds more in one row group than can be read", "write it with smaller ones")

    def entries(self) -> Iterator[Entry]:
        self._check_columns()
        for start, batch in self._batched(self.columns):
            sizes = [_sizes(batch.column(name)) for name in self.columns]
            for row in range(batch.num_rows):
                for name, size in zip(self.columns, sizes, strict=True):
                    yield Entry(f"{start + row:0{_DIGITS}}/{name}", size[row] or 0, plain=size[row] is not None)

    def open(self, index: int) -> BinaryIO:
        row, which = divmod(index, len(self.columns))
        with self._reading:
            start, batch = self._batch(row)
        value = batch.column(self.columns[which])[row - start].as_py()
        data = value.get("bytes") if isinstance(value, dict) else value
        if data is None:
            raise MediaError("it names a picture outside of the table", "put the bytes into the table")
        return io.BytesIO(data)

    def _batch(self, row: int) -> tuple[int, pa.RecordBatch]:
        """The rows about a row, and the number of the first of them. Reading goes on where it is, or begins anew."""
        for start, batch in self._held:
            if start <= row < start + batch.num_rows:
                return start, batch
        if not self._held or row < self._held[-1][0]:
            self._batches, self._held = self._batched(self.columns), []
        for start, batch in self._batches:
            self._held = [*self._held[1 - HELD :], (start, batch)]
            if row < start + batch.num_rows:
                return start, batch
        raise MediaError(f"it has no row {row}", "did it change while it was read?")

    def _batched(self, columns: Sequence[str]) -> Iterator[tuple[int, pa.RecordBatch]]:
        start = 0
        for batch in self.file.iter_batches(batch_size=ROWS, columns=list(columns), use_threads=False):
            yield start, batch
            start += batch.num_rows

    def rewriter(self, file: BinaryIO) -> Rewriter:
        return _ParquetRewriter(self, file)


class _ParquetRewriter(Rewriter):
    """Schema, metadata, compression and row groups are those of the table that was read."""

    def __init__(self, archive: Parquet, file: BinaryIO):
        self.columns, self.source = archive.columns, pq.ParquetFile(archive.local, memory_map=False)
        self.schema = self.source.schema_arrow
        meta = self.source.metadata
        codecs = {}
        if meta.num_row_groups:
            group = meta.row_group(0)
            chunks = [group.column(number) for number in range(group.num_columns)]
            codecs = {chunk.path_in_schema: _codec(chunk.compression) for chunk in chunks}
        # A dictionary of pictures would hold each of them twice.
        plain = [path for path in codecs if path.split(".")[0] not in self.columns]
        self.file = pq.ParquetWriter(file, self.schema, compression=codecs or "snappy", use_dictionary=plain)
        self._rows = self._read()
        self._batch: pa.RecordBatch | None = None
        self._made: list[list[Any]] = []
        self._waiting: list[pa.RecordBatch] = []

    def _read(self) -> Iterator[tuple[pa.RecordBatch, bool]]:
        """The rows of the table a few at a time, and whether these end a row group."""
        meta = self.source.metadata
        for group in range(meta.num_row_groups):
            left = meta.row_group(group).num_rows
            for batch in self.source.iter_batches(batch_size=ROWS, row_groups=[group], use_threads=False):
                left -= batch.num_rows
                yield batch, left == 0

    def put(self, index: int, data: BinaryIO | None, size: int) -> None:
        if self._batch is None:
            self._batch, self._ends = next(self._rows)
            self._made = [[] for _ in self.columns]
        which = index % len(self.columns)
        self._made[which].append(None if data is None else data.read())
        if which == len(self.columns) - 1 and len(self._made[which]) == self._batch.num_rows:
            self._keep()

    def _keep(self) -> None:
        assert self._batch is not None
        batch, self._batch = self._batch, None
        for name, made in zip(self.columns, self._made, strict=True):
            place = self.schema.get_field_index(name)
            new = _with_bytes(batch.column(place), made)
            batch = batch.set_column(place, self.schema.field(name), new)
        self._waiting.append(batch)
        if self._ends or sum(each.nbytes for each in self._waiting) > GROUP:
            self._flush()

    def _flush(self) -> None:
        if self._waiting:
            table = pa.Table.from_batches(self._waiting, self.schema)
            self.file.write_table(table, row_group_size=max(1, table.num_rows))
            self._waiting = []

    def finish(self) -> None:
        self._flush()
        self.file.close()
        self.source.close()

    def close(self) -> None:
        self.source.close()


def _holds_bytes(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        place = kind.get_field_index("bytes")
        return place >= 0 and _is_bytes(kind.field(place).type)
    return _is_bytes(kind)


def _is_bytes(kind: pa.DataType) -> bool:
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def _mentions_bytes(kind: pa.DataType) -> bool:
    """Whether there are bytes anywhere in a type."""
    if kind.num_fields:
        return any(_mentions_bytes(kind.field(number).type) for number in range(kind.num_fields))
    return _is_bytes(kind) or pa.types.is_fixed_size_binary(kind) or pa.types.is_binary_view(kind)


def _sizes(column: pa.Array) -> list[int | None]:
    """How many bytes each picture has: 0 for one that lies elsewhere, None for none at all."""
    if not pa.types.is_struct(column.type):
        return [None if value is None else value for value in pc.binary_length(column).to_pylist()]
    inner = pc.struct_field(column, "bytes")
    paths = pc.struct_field(column, "path") if column.type.get_field_index("path") >= 0 else None
    named = paths.is_valid().to_pylist() if paths is not None else [False] * len(column)
    lengths = pc.binary_length(inner).to_pylist()
    return [
        length if length is not None else (0 if path else None) for length, path in zip(lengths, named, strict=True)
    ]


def _with_bytes(column: pa.Array, made: list[bytes | None]) -> pa.Array:
    """The column with other pictures; None for none, and then not its path either."""
    if not pa.types.is_struct(column.type):
        return pa.array(made, column.type)
    rows = column.to_pylist()
    return pa.array(
        [None if new is None else {**row, "bytes": new} for row, new in zip(rows, made, strict=True)], column.type
    )


def _codec(name: str) -> str:
    return "none" if name == "UNCOMPRESSED" else name.lower()
