"""`deid` and `python -m deidcli`: runs a command and turns errors into one line and an exit status, here only.

Ctrl-C, SIGTERM and SIGHUP end a run at any moment with one line: what was begun is dropped, and finished files are
whole. Where that takes too long, or at a second signal, the process ends at once; the next run clears up.
"""

# The imports come after the handler of signals.
# ruff: noqa: E402

from __future__ import annotations

import _signal
import sys

# A signal during the imports ends the process at once and without a word: nothing was begun. These modules are part of
# the interpreter, so that no file is read before.
_IS_COMMAND = __name__ == "__main__" or sys.argv[0].rpartition("/")[2] == "deid"
if _IS_COMMAND and _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:
    _signal.signal(_signal.SIGINT, _signal.SIG_DFL)

import os
import select
import signal
import threading
from contextlib import suppress
from typing import Any, NoReturn

DONE, PARTIAL, USAGE, NOTHING, INTERRUPTED = 0, 1, 2, 3, 128 + signal.SIGINT
PATIENCE = 10.0  # seconds from a signal to the end of the process
_WORDS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated", signal.SIGHUP: "hung up"}


class Signals:
    """What happens at Ctrl-C, SIGTERM and SIGHUP. received: the first of them, 0 before.

    A signal that is ignored stays so.
    """

    def __init__(self) -> None:
        self.received = 0
        self.begun = False  # whether there is anything to clear up
        for number in _WORDS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._handle)

    def watch(self) -> None:
        """End the process where a signal does not lead to its end, as while a library does not come back."""
        reading, writing = os.pipe()
        os.set_blocking(writing, False)
        signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        threading.Thread(target=self._watch, args=(reading,), name="deid-signals", daemon=True).start()
        self.begun = True

    @property
    def status(self) -> int:
        """The exit status of an interrupted run."""
        return 128 + (self.received or signal.SIGINT)

    def say(self) -> None:
        """What the user reads."""
        word = _WORDS.get(signal.Signals(self.received or signal.SIGINT), "interrupted")
        _write(f"deid: {word}; run it again with --resume to go on\n")

    def end(self) -> NoReturn:
        """End the process, whatever its threads do."""
        _flush()
        os._exit(self.status)

    def _handle(self, number: int, frame: Any) -> None:
        if not self.received:
            self.received = number
            # Libraries that are stopped half way would print errors of their own.
            sys.unraisablehook = lambda _: None
            threading.excepthook = lambda _: None
            if self.begun:
                raise KeyboardInterrupt
        self.say()
        self.end()

    def _watch(self, reading: int) -> None:
        stops = 0
        while True:
            ready, _, _ = select.select([reading], [], [], PATIENCE if stops else None)
            stops += sum(byte in _WORDS for byte in os.read(reading, 64)) if ready else 0
            if stops > 1 or (stops and not ready):
                self.received = self.received or signal.SIGINT
                self.say()
                self.end()


def main() -> None:
    """Run the command line and exit."""
    signals = Signals()
    _open_closed_streams()
    # TensorFlow reads these once, when it is imported; a user's own settings win.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    signals.watch()
    try:
        status = run(sys.argv[1:])
    except BaseException:
        # A library may turn an interrupt into an error of its own.
        if not signals.received:
            raise
        signals.say()
        status = INTERRUPTED
    if signals.received and status != DONE:
        signals.end()
    _flush()
    sys.exit(status)


def run(arguments: list[str]) -> int:
    """Run one command; the exit status."""
    import click

    from deidcli.cli import main as commands
    from deidcli.cli.progress import say
    from deidcli.errors import DeidError, UsageError

    try:
        status = commands.main(arguments, prog_name="deid", standalone_mode=False)
    except (click.exceptions.Abort, KeyboardInterrupt):
        say("deid: interrupted; run it again with --resume to go on")
        return INTERRUPTED
    except click.ClickException as error:
        _show(error)
        return USAGE
    except UsageError as error:
        say(f"deid: {error}")
        return USAGE
    except DeidError as error:
        say(f"deid: {error}")
        return NOTHING
    except BrokenPipeError:
        # The reader of our output has gone (`deid detect | head`): nothing can be printed any more.
        _silence(sys.stdout)
        return PARTIAL
    return status if isinstance(status, int) else DONE


def _show(error: Any) -> None:
    """A usage error in click's words, without what a terminal would obey."""
    from deidcli.cli.progress import say

    context = getattr(error, "ctx", None)
    if context is not None:
        for line in (*context.get_usage().splitlines(), f"Try '{context.command_path} --help' for help.", ""):
            say(line)
    say(f"Error: {error.format_message()}")


def _open_closed_streams() -> None:
    """A closed standard stream would give its number to the next file that is opened, and messages would go into it."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115 - for as long as the process lives


def _flush() -> None:
    """Write what is still held; a reader that has gone is no error any more."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError):
            _silence(stream)


def _silence(stream: Any) -> None:
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _write(text: str) -> None:
    with suppress(OSError):
        os.write(2, text.encode())


if __name__ == "__main__":
    main()
