"""The tree of exceptions: every error a user can cause says what was expected, what came and what to do.

JCSError (exit code 5)     every one has a code and a remedy, for machines
├── ConfigError (2)      a setting, option or manifest that cannot be used
│   ├── NotFoundError       nothing lies at a path
│   ├── MissingExtraError   a package of an extra is not installed
│   ├── DeviceError         no such device, or none here
│   ├── ManifestError       a manifest's problems, each with its kind and row (data/manifest)
│   │   └── LeakError           patients of one part share slices with another's (data/manifest)
│   ├── PacsDeniedError     a PACS refuses the credentials (pacs)
│   └── PacsCertificateError    its certificate is not trusted (pacs)
├── OutputError (2)      the output folder cannot be written, or the disk is full
├── StudyError (3)       the geometry gate refuses a study; carries the gate's code
├── MaskError (3)        a mask that is not what it says
├── CheckpointError (3)  a weights file that cannot be read or does not fit
├── DamagedFileError (3) a file that jcs-ct wrote for itself is not as it wrote it
├── KilledError (5)      the system ended a process, through no fault of what it read
├── BackendError (5)     a backend cannot run a network, or an exported one does not agree with it
├── PacsError (5)        what a PACS does or answers; its kinds are drawn in pacs/server
├── StudyChangedError (5)   the images on a PACS are not those that were queued (pacs)
├── NotFetchedError (5)  a study of a batch is not where it was found, or its store does not give it (batch)
├── LeaseLostError (5)   a job may be another runner's by now (jobs)
├── ResultsGoneError (5)    what an attempt wrote was removed before it was put in place (jobs)
└── StoppedError (130)    someone stopped a command; says what is left and how to go on
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum
from typing import Any


class GateCode(StrEnum):
    """Why a study (or one file of it) is refused; the codes of the geometry gate."""

    GAP = "GAP"
    TILT = "TILT"
    DUPLICATE_POSITION = "DUPLICATE_POSITION"
    MIXED_SERIES = "MIXED_SERIES"
    MIXED_ORIENTATION = "MIXED_ORIENTATION"
    MIXED_SPACING = "MIXED_SPACING"
    MIXED_SIZE = "MIXED_SIZE"
    SLICE_ORDER = "SLICE_ORDER"
    NO_POSITION = "NO_POSITION"
    TRUNCATED = "TRUNCATED"
    NOT_CT = "NOT_CT"
    LOCALIZER = "LOCALIZER"
    NOT_AXIAL = "NOT_AXIAL"
    HU_VARIES = "HU_VARIES"
    NO_LUNG = "NO_LUNG"
    TOO_FEW_SLICES = "TOO_FEW_SLICES"
    NO_IMAGES = "NO_IMAGES"
    UNREADABLE = "UNREADABLE"
    UNSUPPORTED = "UNSUPPORTED"
    NO_HU = "NO_HU"


#: What to do about each code, in one sentence; the message of an error says it with its numbers.
REMEDIES: Mapping[str, str] = {
    GateCode.GAP: "export the series again with all its slices, or read it with --lenient without measurements",
    GateCode.TILT: "have the series reconstructed without gantry tilt",
    GateCode.DUPLICATE_POSITION: "remove the copies, or export one reconstruction",
    GateCode.MIXED_SERIES: "give the files of one series alone: one acquisition, one reconstruction",
    GateCode.MIXED_ORIENTATION: "export slices of one orientation",
    GateCode.MIXED_SPACING: "export one reconstruction with even spacing",
    GateCode.MIXED_SIZE: "export one reconstruction of one matrix size",
    GateCode.SLICE_ORDER: "give the slices in the order of the body",
    GateCode.NO_POSITION: "export the series with its geometry, or read it with --lenient without measurements",
    GateCode.TRUNCATED: "copy or export the named files again",
    GateCode.NOT_CT: "give a CT series; `jcs info` lists what is there",
    GateCode.LOCALIZER: "give the axial series; `jcs info` lists what is there",
    GateCode.NOT_AXIAL: "give the axial series",
    GateCode.HU_VARIES: "export the series with the rescale values of its scanner",
    GateCode.NO_LUNG: "give a series that shows the lungs",
    GateCode.TOO_FEW_SLICES: "give the whole series, or read it with --lenient for slice verdicts",
    GateCode.NO_IMAGES: "give a folder or file with a CT study",
    GateCode.UNREADABLE: "copy the file again from its source",
    GateCode.UNSUPPORTED: "convert the files to a supported kind (docs/reference/inputs.md)",
    GateCode.NO_HU: "export the CT again from its source, with its rescale slope and intercept",
    "DISK_FULL": "free space, or choose another folder",
    "OUTPUT_UNWRITABLE": "choose a folder you can write to",
    "NOT_FOUND": "give the path of a file or folder that is there",
    "EXTRA": "install the extra that the message names",
    "DEVICE": "use --device cpu, or leave it out; `jcs doctor` says what is here",
    "SETTINGS": "change the options, recipe or table that the message names",
    "MANIFEST": "mend what the message lists; it names the option for what can be decided on the command line",
    "LEAK": "keep patients that share slices in one part (`jcs data split --join-duplicates`), or --accept-leaks",
    "USAGE": "see the command's --help",
    "MASK": "give a lesion mask on the study's grid (docs/reference/inputs.md)",
    "CHECKPOINT": "give a checkpoint of jcs-ct, or import the file with `jcs weights import`",
    "DAMAGED": "put the file that the message names back from a copy, or do what else it says",
    "BACKEND": "choose another --backend or --precision; `jcs doctor` says what works here",
    "PACS": "look at the server's log; the message says what it answered",
    "PACS_UNAVAILABLE": "try again when the server answers",
    "PACS_INCOMPLETE": "try again when the study has arrived whole",
    "PACS_ANSWER": "check that the address is the server's DICOMweb or DIMSE service",
    "PACS_GONE": "check the server's root address and the study's identifier: the server has nothing there",
    "PACS_REFUSED": "have the server's administrator allow it, or send something else",
    "PACS_CREDENTIALS": "give the server's credentials (docs/how-to/pacs.md)",
    "PACS_CERTIFICATE": "give the server's certificate authority (docs/how-to/pacs.md)",
    "CHANGED": "wait until the study no longer changes",
    "NOT_FETCHED": "check that the study is still where it was found, and that its store can be read",
    "FAILED": "do what the message says; if it says nothing, report it with --verbose output",
    "OUT_OF_MEMORY": "allow the study more memory, or read it on a machine that has more",
    "TIMED_OUT": "allow the study more time, or read it with fewer beside it",
    "KILLED": "read the study again; if that is killed, too, the machine has too little memory",
    "CRASHED": "read the study again; if it crashes once more, report it with its message",
    "CANCELLED": "queue the study again if it is wanted after all",
    "RUNNER_LOST": "read the study again; the program or machine that worked on it went away",
    "BAD_SETTING": "change the option or the weights that the message names",
    "INTERRUPTED": "run the same command again",
    "FAULT": "this is a fault of the software: report it with the traceback on stderr",
}


class JCSError(Exception):
    """Any error that jcs-ct raises on purpose.

    Args:
        message: What was expected, what came, what to do.
        remedy: What to do, in one sentence, where something fits better than what :data:`REMEDIES` says of the code.

    Attributes:
        exit_code: The command line's.
        code: What kind of error it is; a key of :data:`REMEDIES`. Codes do not change between minor versions.
    """

    exit_code = 5
    code: str = "FAILED"

    def __init__(self, message: str = "", *, remedy: str | None = None) -> None:
        super().__init__(message)
        self._remedy = remedy

    @property
    def remedy(self) -> str:
        """What to do, in one sentence."""
        return REMEDIES[self.code] if self._remedy is None else self._remedy

    @property
    def details(self) -> Mapping[str, Any]:
        """What belongs into the JSON of the ending beside code, message and remedy."""
        return {}


class ConfigError(JCSError):
    """A setting, option or manifest cannot be used; lists every problem at once."""

    exit_code = 2
    code = "SETTINGS"


class NotFoundError(ConfigError):
    """Nothing lies at a path; names every such path at once."""

    code = "NOT_FOUND"


class MissingExtraError(ConfigError):
    """A package of an extra is not installed.

    Args:
        what: What needs it.
        extra: Its name, or several separated by commas.
        instead: What can be done without it.
    """

    code = "EXTRA"

    def __init__(self, what: str, extra: str, *, instead: str = "") -> None:
        install = f"pip install 'jcs-ct[{extra}]'"
        otherwise = f"; or {instead}" if instead else ""
        super().__init__(f"{what} needs an extra: {install}{otherwise}", remedy=f"{install}{otherwise}")


@contextmanager
def needing_extra(what: str, extra: str, packages: Collection[str]) -> Iterator[None]:
    """Imports of packages of an extra: a missing one is said as such, any other missing module as it is.

    Args:
        what, extra: See :class:`MissingExtraError`.
        packages: The extra's packages, as they are imported.

    Raises:
        MissingExtraError: one of them is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name not in packages:
            raise
        raise MissingExtraError(what, extra) from error


class DeviceError(ConfigError):
    """No such device, or none here."""

    code = "DEVICE"


class OutputError(JCSError):
    """An output cannot be written; nothing half-written is left behind.

    Args:
        message: What cannot be written, why, and what to do.
        code: ``OUTPUT_UNWRITABLE`` or ``DISK_FULL``.
        remedy: As of :class:`JCSError`.
    """

    exit_code = 2

    def __init__(self, message: str, *, code: str = "OUTPUT_UNWRITABLE", remedy: str | None = None) -> None:
        super().__init__(message, remedy=remedy)
        self.code = code


class StudyError(JCSError):
    """The geometry gate refuses a study.

    Args:
        code: The gate's code.
        message: What was expected, what came (with numbers), what to do. The code is appended.
        remedy: As of :class:`JCSError`.
    """

    exit_code = 3
    code: GateCode

    def __init__(self, code: GateCode, message: str, *, remedy: str | None = None) -> None:
        super().__init__(f"{message} ({code})", remedy=remedy)
        self.code = code


class MaskError(JCSError):
    """A mask has values, a size or a geometry that a lesion mask cannot have."""

    exit_code = 3
    code = "MASK"


class CheckpointError(JCSError):
    """A weights file is damaged, unsafe or does not fit the network."""

    exit_code = 3
    code = "CHECKPOINT"


class DamagedFileError(JCSError):
    """A file that jcs-ct wrote for itself is not as it wrote it: cut off, emptied, or changed by another hand.

    Args:
        named: The file, as the message calls it.
        why: What is wrong with it.
        instead: What can be done where there is no copy of it.
    """

    exit_code = 3
    code = "DAMAGED"

    def __init__(self, named: object, why: str, *, instead: str) -> None:
        remedy = f"put it back from a copy, or {instead}"
        super().__init__(f"{named} is damaged: {why}; {remedy} ({self.code})", remedy=remedy)


class KilledError(JCSError):
    """The system ended a process that read a study, through no fault of the study: another attempt may succeed."""

    code = "KILLED"


class BackendError(JCSError):
    """A backend cannot run a network, or an exported network does not agree with it."""

    code = "BACKEND"


class StoppedError(JCSError):
    """Someone stopped a command.

    Args:
        left: What is left on disk, and how far the work was.
        go_on: How to go on.
        terminated: By SIGTERM, and not by Ctrl-C.
    """

    exit_code = 130  # 128 + SIGINT, as shells count
    code = "INTERRUPTED"

    def __init__(self, left: str, go_on: str, *, terminated: bool = False) -> None:
        super().__init__(f"stopped: {left}; {go_on}", remedy=go_on)
        if terminated:
            self.exit_code = 143  # 128 + SIGTERM
