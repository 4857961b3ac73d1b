"""Tasks that do to a batch what studies do."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

from jcs_ct.errors import GateCode, OutputError, StudyError

FACTS = {
    "verdict": "positive",
    "basis": "slice_count",
    "positive_slice_count": 4,
    "positive_slice_threshold": 1,
    "lung_slice_count": 6,
    "slice_count": 6,
    "lesion_count": 2,
    "opacification_volume_ml": 10.5,
    "percent_opacity": 12.5,
    "flags": ["A", "B"],
    "scanner": "Maker One",
    "input_bytes": 10,
    "output_bytes": 20,
    "models": {"classifier": {"sha256": "c"}, "segmenter": {"sha256": "s"}},
}


def play(arguments, progress):
    """Do what the study asks for, noting each time that it was begun."""
    study = arguments["study"]
    note = study.get("note")
    if note:
        with open(note, "a") as stream:
            stream.write(study["name"] + "\n")
    progress("read", 0, 1)
    act = study.get("act", "")
    if act == "refuse":
        raise StudyError(GateCode.NO_LUNG, "no lung is seen")
    if act == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if act == "hang" or (act == "hang once" and Path(note).read_text().split().count(study["name"]) == 1):
        Path(f"{note}.{study['name']}").write_text(str(os.getpid()))
        while True:
            progress("hang", 0, 1)
            time.sleep(0.05)
    if act == "eat":
        eaten = []
        while True:
            eaten.append(bytearray(os.urandom(1 << 10)) * (8 << 10))
            time.sleep(0.005)
    if act == "full":
        raise OutputError("cannot write there: the disk is full (DISK_FULL)")
    if act == "once" and Path(note).read_text().count(study["name"]) == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(study.get("seconds", 0.0))
    Path(arguments["output"], "answer.txt").write_text(json.dumps(study))
    return FACTS
