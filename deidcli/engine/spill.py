"""Spill: rows of numbers on disk, so that what is held of a million faces is not held in memory."""

from __future__ import annotations

import tempfile

import numpy as np

from deidcli.errors import MediaError


class Spill:
    """An array that grows row by row in a file without a name: it is gone when it is closed, or the process dies.

    The file lies in the system's folder for temporary files (TMPDIR).
    """

    def __init__(self, shape: tuple[int, ...], dtype: type):
        self.shape, self.dtype, self._count = shape, np.dtype(dtype), 0
        self._bytes = int(np.prod(shape)) * self.dtype.itemsize
        self._file = tempfile.TemporaryFile(prefix="deid-")  # noqa: SIM115 - lives as long as the rows do

    def add(self, row: np.ndarray) -> None:
        """Append a row. Raises MediaError where the disk is full."""
        if row.shape != self.shape:
            raise ValueError(f"a row of {self.shape} is needed, not {row.shape}")
        try:
            self._file.seek(self._count * self._bytes)
            self._file.write(np.ascontiguousarray(row, self.dtype).tobytes())
        except OSError as error:
            reason = f"no room for the faces of the closed set in {tempfile.gettempdir()}: {error.strerror}"
            raise MediaError(reason, "set TMPDIR to a folder with more room") from error
        self._count += 1

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, numbers: np.ndarray) -> np.ndarray:
        """The rows with these numbers, (m, *shape); one row for one number."""
        wanted = np.atleast_1d(np.asarray(numbers, int))
        rows = np.empty((len(wanted), *self.shape), self.dtype)
        for row, number in zip(rows, wanted, strict=True):
            if not 0 <= number < self._count:
                raise IndexError(f"row {number} of {self._count}")
            self._file.seek(int(number) * self._bytes)
            row[...] = np.frombuffer(self._file.read(self._bytes), self.dtype).reshape(self.shape)
        return rows if np.ndim(numbers) else rows[0]

    def close(self) -> None:
        """Let the file go."""
        self._file.close()


class Picked:
    """Some rows of a spill, in an order of their own; read when they are asked for."""

    def __init__(self, spill: Spill, numbers: np.ndarray):
        self._spill, self._numbers = spill, numbers

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, numbers: np.ndarray) -> np.ndarray:
        return self._spill[self._numbers[numbers]]
