"""The tree of exceptions: every error a user can cause says what was expected, what came and what to do.

JCSError (exit code 5)
├── ConfigError (2)      a setting, option or manifest that cannot be used
├── OutputError (2)      the output folder cannot be written, or the disk is full
├── StudyError (3)       the geometry gate refuses a study; carries the gate's code
├── MaskError (3)        a mask that is not what it says
├── CheckpointError (3)  a weights file that cannot be read or does not fit
└── BackendError (5)     a backend cannot run a network, or an exported one does not agree with it
"""

from __future__ import annotations

from enum import StrEnum


class GateCode(StrEnum):
    """Why a study (or one file of it) is refused; the codes of the geometry gate."""

    GAP = "GAP"
    TILT = "TILT"
    DUPLICATE_POSITION = "DUPLICATE_POSITION"
    MIXED_SERIES = "MIXED_SERIES"
    MIXED_ORIENTATION = "MIXED_ORIENTATION"
    MIXED_SPACING = "MIXED_SPACING"
    MIXED_SIZE = "MIXED_SIZE"
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


class JCSError(Exception):
    """Any error that jcs-ct raises on purpose; ``exit_code`` is the command line's."""

    exit_code = 5


class ConfigError(JCSError):
    """A setting, option or manifest cannot be used; lists every problem at once."""

    exit_code = 2


class OutputError(JCSError):
    """An output cannot be written; nothing half-written is left behind."""

    exit_code = 2


class StudyError(JCSError):
    """The geometry gate refuses a study.

    Args:
        code: The gate's code.
        message: What was expected, what came (with numbers), what to do. The code is appended.
    """

    exit_code = 3

    def __init__(self, code: GateCode, message: str) -> None:
        super().__init__(f"{message} ({code})")
        self.code = code


class MaskError(JCSError):
    """A mask has values, a size or a geometry that a lesion mask cannot have."""

    exit_code = 3


class CheckpointError(JCSError):
    """A weights file is damaged, unsafe or does not fit the network."""

    exit_code = 3


class BackendError(JCSError):
    """A backend cannot run a network, or an exported network does not agree with it."""
