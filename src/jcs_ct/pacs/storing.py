"""What a server says about results that were sent to it (PS3.18 10.5.3), in the many ways that servers say it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from jcs_ct.pacs.attributes import count_value, read_attributes, sequence, uid_value
from jcs_ct.pacs.server import PacsAnswerError, PacsRefusedError
from jcs_ct.pacs.transport import Answer

#: Bytes of one STOW-RS request, so that one lost connection does not cost a whole study.
STORE_BYTES = 32 * 1024**2
_FAILED, _STORED = "00081198", "00081199"
_INSTANCE, _FAILURE_REASON, _WARNING_REASON = "00081155", "00081197", "00081196"
#: Failure reasons that say "it is here already": PS3.7 C.4.1.5 (0111H), and 45070 of Azure's and of other services.
DUPLICATE_REASONS = frozenset({0x0111, 45070})


@dataclass(frozen=True)
class StoreReceipt:
    """What became of the objects of one request.

    Args:
        stored: Objects that the server now holds.
        present: Those of them that it held before.
        warned: Those of them that it changed (warning reason).
        doubtful: Identifiers that it neither took nor said to hold; an empty text for one that it did not name.
        reasons: Failure reason of each doubtful one, 0 where it gave none.
    """

    stored: int
    present: int = 0
    warned: int = 0
    doubtful: tuple[str, ...] = ()
    reasons: tuple[int, ...] = ()

    def __add__(self, other: StoreReceipt) -> StoreReceipt:
        return StoreReceipt(
            self.stored + other.stored,
            self.present + other.present,
            self.warned + other.warned,
            self.doubtful + other.doubtful,
            self.reasons + other.reasons,
        )

    def explained(self) -> str:
        """The failure reasons, for a message."""
        counted = Counter(self.reasons)
        named = (
            (count, f"reason {reason:04X}H" if reason else "no reason given") for reason, count in counted.items()
        )
        return ", ".join(f"{count} x {name}" for count, name in named)


def read_receipt(answer: Answer, sent: int) -> StoreReceipt:
    """What a server says of ``sent`` objects; those that a refusal (400 and above) does not name are in doubt.

    A success that names some of them, or none, is taken at its word: many servers answer so.

    Raises:
        PacsAnswerError: the answer is no DICOM (a login page, say): nothing is known to be stored.
        PacsRefusedError: the request is too large.
    """
    if answer.status == 413:
        raise PacsRefusedError(f"the PACS takes no request as large as that of {sent} results (HTTP 413)")
    try:
        said = read_attributes(answer.content, answer.content_type)
    except PacsAnswerError:
        if answer.status < 400:
            raise
        said = []
    failures = [item for one in said for item in sequence(one, _FAILED)]
    named = [item for one in said for item in sequence(one, _STORED)]
    doubtful = [
        (uid_value(item, _INSTANCE), reason)
        for item in failures
        if (reason := count_value(item, _FAILURE_REASON) or 0) not in DUPLICATE_REASONS
    ]
    duplicates = len(failures) - len(doubtful)
    unnamed = sent - len(failures) - len(named)
    if unnamed > 0 and answer.status >= 400:
        doubtful += [("", 0)] * unnamed
    return StoreReceipt(
        stored=max(0, sent - len(doubtful)),
        present=duplicates,
        warned=sum(count_value(item, _WARNING_REASON) is not None for item in named),
        doubtful=tuple(uid for uid, _ in doubtful),
        reasons=tuple(reason for _, reason in doubtful),
    )


def batches(paths: Sequence[Path]) -> Iterator[list[Path]]:
    """Files in requests of at most :data:`STORE_BYTES`, in their order."""
    batch: list[Path] = []
    size = 0
    for path in paths:
        length = path.stat().st_size
        if batch and size + length > STORE_BYTES:
            yield batch
            batch, size = [], 0
        batch.append(path)
        size += length
    if batch:
        yield batch
