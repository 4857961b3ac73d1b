"""The study's process: takes tasks as JSON lines on stdin, answers in JSON lines, ends with whoever started it.

Started by :class:`~jcs_ct.jobs.worker.StudyWorker` as ``python -P -m jcs_ct.jobs.child``. What it keeps between tasks
(loaded networks) is why one process may read many studies; after a failure it ends, so that the next study meets a
fresh one. Answers: ``{"progress": [stage, done, total]}``, then one of ``{"value": {...}}`` and ``{"ending": ...,
"code": ..., "message": ...}``.
"""

from __future__ import annotations

import importlib
import json
import logging
import os
import queue
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from jcs_ct.imaging.sandbox import keep_warm
from jcs_ct.jobs.outcome import Ending, explain
from jcs_ct.progress import Progress

#: A task takes JSON values and returns JSON values.
Task = Callable[[Mapping[str, Any], Progress], Mapping[str, Any]]

#: Ask the kernel to end this process first when memory runs out (Linux), rather than the server or the desktop.
_OOM_SCORE = Path("/proc/self/oom_score_adj")


def find_task(name: str) -> Task:
    """The function ``module:function``; names come from this package's code only, never from a user."""
    module, _, function = name.partition(":")
    task: Task = getattr(importlib.import_module(module), function)
    return task


def run_tasks(tasks: IO[str], answer: Callable[[Mapping[str, Any]], None]) -> None:
    """Do tasks as they come until there are no more, or one fails."""
    for order in _arriving(tasks):

        def progress(stage: str, done: int, total: int) -> None:
            answer({"progress": [stage, done, total]})

        try:
            value = find_task(order["task"])(order["arguments"], progress)
        except Exception as error:  # noqa: BLE001 - whatever a study raises is one attempt with its code
            ending, code, message = explain(error)
            answer({"ending": ending, "code": code, "message": message})
            if ending is not Ending.REFUSED:
                return
        else:
            answer({"value": dict(value)})


def _arriving(tasks: IO[str]) -> Iterator[Mapping[str, Any]]:
    """Lines of ``tasks`` as they come; when they end in the middle of a task, so does this process and its children.

    The pipe closes when the program that started this process is gone, also after a SIGKILL.
    """
    waiting: queue.SimpleQueue[str] = queue.SimpleQueue()

    def take() -> None:
        for line in tasks:
            waiting.put(line)
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=take, daemon=True).start()
    while True:
        yield json.loads(waiting.get())


def main() -> None:
    """Answer on what was stdout; whatever libraries print goes to stderr."""
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    if _OOM_SCORE.exists():
        _OOM_SCORE.write_text("1000", encoding="ascii")
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)
    lock = threading.Lock()
    keep_warm()

    def answer(message: Mapping[str, Any]) -> None:
        with lock:
            answers.write(json.dumps(dict(message)) + "\n")

    run_tasks(sys.stdin, answer)


if __name__ == "__main__":
    main()
