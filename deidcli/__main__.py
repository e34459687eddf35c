"""`deid` and `python -m deidcli`: runs a command and turns errors into one line and an exit status, here only."""

from __future__ import annotations

import os
import sys

import click

from deidcli.errors import DeidError, UsageError

DONE, PARTIAL, USAGE, NOTHING, INTERRUPTED = 0, 1, 2, 3, 130


def main() -> None:
    """Run the command line and exit."""
    # TensorFlow reads these once, when it is imported; a user's own settings win.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command; the exit status."""
    from deidcli.cli import main as commands

    try:
        status = commands.main(arguments, prog_name="deid", standalone_mode=False)
    except click.exceptions.Abort:
        return _say("interrupted; run it again with --resume to go on", INTERRUPTED)
    except click.ClickException as error:
        error.show()
        return USAGE
    except UsageError as error:
        return _say(str(error), USAGE)
    except DeidError as error:
        return _say(str(error), NOTHING)
    except KeyboardInterrupt:
        return _say("interrupted; run it again with --resume to go on", INTERRUPTED)
    except BrokenPipeError:
        # The reader of our output has gone (`deid detect | head`): nobody is left to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return PARTIAL
    return status if isinstance(status, int) else DONE


def _say(message: str, status: int) -> int:
    click.echo(f"deid: {message}", err=True)
    return status


if __name__ == "__main__":
    main()
