"""The process of ``jcs`` and ``python -m jcs_ct``: it runs one command and is gone."""

from __future__ import annotations

import atexit
import os
import sys
import threading

from jcs_ct.cli import main


def enter() -> None:
    """Run the command, then end the process at once, after all that asked to be called at its end.

    The interpreter would free a study and its networks piece by piece, which takes a third of a second; the system
    takes all of it back together. With a thread still at work, or a pipe that nobody reads, it ends as usual.
    """
    try:
        main()
    except SystemExit as ending:
        if not isinstance(ending.code, int) or threading.active_count() > 1:
            raise
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        except OSError:
            raise ending from None  # the interpreter says what is to be said of it
        atexit._run_exitfuncs()
        os._exit(ending.code)


if __name__ == "__main__":
    enter()
