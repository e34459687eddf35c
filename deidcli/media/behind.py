"""Work that follows behind in a thread of its own: a few items wait at most, and no error is lost."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import Empty, Queue
from typing import Generic, TypeVar

T = TypeVar("T")
_END = object()


class Behind(Generic[T]):
    """Calls `work` with each item in turn. room: how many items may wait; `put` waits for a place."""

    def __init__(self, work: Callable[[T], None], room: int, name: str):
        self._work = work
        self._queue: Queue = Queue(room)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def put(self, item: T) -> None:
        """Hand over an item. Raises what an earlier item raised."""
        self._raise()
        self._queue.put(item)

    def finish(self) -> None:
        """Wait until all is done. Raises what an item raised."""
        self._queue.put(_END)
        self._thread.join()
        self._raise()

    def stop(self) -> None:
        """Drop what waits, and wait for what has begun."""
        while self._thread.is_alive():
            try:
                self._queue.get_nowait()
            except Empty:
                self._queue.put(_END)
                self._thread.join()

    def _run(self) -> None:
        while (item := self._queue.get()) is not _END:
            # After an error the queue is emptied all the same: whoever waits for a place has to come to know of it.
            if self._error is None:
                try:
                    self._work(item)
                except BaseException as error:
                    self._error = error

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error
