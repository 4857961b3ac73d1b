"""The process of ``jcs`` and ``python -m jcs_ct``: it runs one command and is gone.

What is imported here is what a command waits for before it can answer Ctrl-C.
"""

from __future__ import annotations

import os
import signal
import sys


def enter() -> None:
    """Run the command, then end the process at once, after all that asked to be called at its end.

    A signal that comes while the command line is imported is kept, and answered as soon as there is someone to
    answer; one that comes when all is done changes nothing.

    The interpreter would free a study and its networks piece by piece, which takes a third of a second; the system
    takes all of it back together. With a thread still at work, or a pipe that nobody reads, it ends as usual.
    """
    early: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda number, _: early.append(number))
    # NumPy asks for pages of 2 MiB unless it is told otherwise before it is imported: label volumes that are mostly
    # empty would be held whole, 0.7 GiB more of a study of 1 200 slices, for no time that could be measured.
    os.environ.setdefault("NUMPY_MADVISE_HUGEPAGE", "0")
    import atexit
    import threading

    from jcs_ct.cli import main

    try:
        main(early)
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
