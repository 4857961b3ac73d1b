"""A DICOMweb server: QIDO-RS to search, WADO-RS to fetch, STOW-RS to store (PS3.18).

Servers cap their answers, with or without saying so: a list is read page by page until nothing new comes.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from jcs_ct.disk_space import GIB
from jcs_ct.files import write_bytes
from jcs_ct.imaging.identifiers import read_identifiers
from jcs_ct.pacs.archive import Archive, Wanted
from jcs_ct.pacs.attributes import Attributes, checked_uid, count_value, read_attributes, text_value, uid_value
from jcs_ct.pacs.multipart import decode_parts, encode_parts
from jcs_ct.pacs.remote import RemoteSeries, RemoteStudy, StudyQuery, patient_key
from jcs_ct.pacs.server import (
    PacsAnswerError,
    PacsDeniedError,
    PacsGoneError,
    PacsIncompleteError,
    PacsRefusedError,
    PacsServer,
    PacsUnavailableError,
)
from jcs_ct.pacs.storing import StoreReceipt, batches, read_receipt
from jcs_ct.pacs.transport import Connection

logger = logging.getLogger(__name__)

_Read = TypeVar("_Read")

#: Results asked for at a time; some services refuse more than 200.
PAGE = 100
#: A list longer than this is no list of a real archive.
_MOST_RESULTS = 2_000_000
_SEARCH_BYTES, _INSTANCE_BYTES, _RECEIPT_BYTES = 256 * 1024**2, 2 * GIB, 16 * 1024**2
_STUDY_UID, _SERIES_UID, _INSTANCE_UID, _SOP_CLASS = "0020000D", "0020000E", "00080018", "00080016"
_MODALITY, _PATIENT_ID, _STUDY_DATE = "00080060", "00100020", "00080020"
_ACCESSION_NUMBER = "00080050"
_STUDY_DESCRIPTION, _SERIES_DESCRIPTION, _BODY_PART = "00081030", "0008103E", "00180015"
_STUDY_INSTANCES, _SERIES_INSTANCES = "00201208", "00201209"
#: What may be asked for when an instance is fetched: as it is stored, then as the server likes.
_ACCEPTED = (
    'multipart/related; type="application/dicom"; transfer-syntax=*',
    'multipart/related; type="application/dicom"',
    "application/dicom",
)


class DicomWeb(Archive):
    """Requests to one server.

    Args:
        server: Address, credentials, patience.
        sleep: Waits between retries.
    """

    def __init__(self, server: PacsServer, *, sleep: Callable[[float], None] = time.sleep) -> None:
        self._connection = Connection(server, sleep=sleep)
        self._accepted = 0

    def close(self) -> None:
        """Close connections."""
        self._connection.close()

    def studies(self, query: StudyQuery | None = None, *, most: int | None = None) -> list[RemoteStudy]:
        """See :meth:`Archive.studies`; in the server's order."""
        query = query or StudyQuery()
        parameters = {"ModalitiesInStudy": "CT", "includefield": f"{_STUDY_INSTANCES},{_STUDY_DESCRIPTION}"}
        if query.since is not None:
            parameters["StudyDate"] = f"{query.since:%Y%m%d}-"
        if query.patient_id:
            parameters["PatientID"] = query.patient_id
        if query.accession_number:
            parameters["AccessionNumber"] = query.accession_number

        def read(item: Attributes) -> RemoteStudy | None:
            return _study(item) if _is_asked_for(item, query) else None

        found = self._search("/studies", parameters, _STUDY_UID, read, most=most)
        return [one for one in found if one is not None and query.admits_date(one.date)]

    def _series_of(self, study_uid: str) -> list[RemoteSeries]:
        path = f"/studies/{checked_uid(study_uid)}/series"
        fields = f"{_SERIES_INSTANCES},{_SERIES_DESCRIPTION},{_BODY_PART}"
        found = self._search(path, {"includefield": fields}, _SERIES_UID, lambda item: _series(study_uid, item))
        return [one for one in found if one is not None]

    def _instances_of(self, series: RemoteSeries) -> dict[str, str]:
        path = f"/studies/{checked_uid(series.study_uid)}/series/{checked_uid(series.uid)}/instances"

        def read(item: Attributes) -> tuple[str, str] | None:
            is_mine = uid_value(item, _SERIES_UID) in ("", series.uid)
            return (uid_value(item, _INSTANCE_UID), text_value(item, _SOP_CLASS)) if is_mine else None

        found = self._search(path, {}, _INSTANCE_UID, read, enough=series.instance_count)
        return dict(one for one in found if one is not None)

    def _fetch(self, wanted: Wanted, folder: Path, advance: Callable[[int], None]) -> None:
        for done, (name, (series, uid)) in enumerate(wanted.items(), start=1):
            write_bytes(folder / name, self.instance(series, uid))
            advance(done)

    def study(self, study_uid: str) -> RemoteStudy:
        """See :meth:`Archive.study`."""
        parameters = {"StudyInstanceUID": checked_uid(study_uid), "includefield": _STUDY_INSTANCES}
        found = self._search("/studies", parameters, _STUDY_UID, _study)
        return next((one for one in found if one.uid == study_uid), RemoteStudy(study_uid))

    def instance(self, series: RemoteSeries, uid: str) -> bytes:
        """One DICOM file in the transfer syntax it is stored in.

        Raises:
            PacsAnswerError: the answer is not one DICOM file.
        """
        path = (
            f"/studies/{checked_uid(series.study_uid)}/series/{checked_uid(series.uid)}/instances/{checked_uid(uid)}"
        )
        while True:
            headers = {"Accept": _ACCEPTED[self._accepted]}
            last = self._accepted + 1 == len(_ACCEPTED)
            answer = self._connection.request(
                "GET", path, headers=headers, most_bytes=_INSTANCE_BYTES, returned=() if last else (406,)
            )
            if answer.status != 406:
                break
            self._accepted += 1
        parts = list(decode_parts(answer.content, answer.content_type))
        if len(parts) != 1:
            raise PacsAnswerError(f"the PACS answered with {len(parts)} parts for one instance; 1 is expected")
        if parts[0][128:132] != b"DICM":
            raise PacsAnswerError("the PACS answered with something else than a DICOM file (PS3.10); see its log")
        return parts[0]

    def store(self, paths: Sequence[Path], *, advance: Callable[[int, int], None] | None = None) -> StoreReceipt:
        """See :meth:`Archive.store`."""
        total = StoreReceipt(0)
        for batch in batches(paths):
            receipt = self._store_batch(batch)
            total += self._settle(receipt, batch) if receipt.doubtful else receipt
            if advance is not None:
                advance(total.stored, len(paths))
        return total

    def _store_batch(self, batch: Sequence[Path]) -> StoreReceipt:
        body, content_type = encode_parts([path.read_bytes() for path in batch])
        headers = {"Content-Type": content_type, "Accept": "application/dicom+json"}
        answer = self._connection.request(
            "POST", "/studies", data=body, headers=headers, most_bytes=_RECEIPT_BYTES, returned=(400, 409, 413)
        )
        if answer.status == 413 and len(batch) > 1:
            half = len(batch) // 2
            first, second = self._store_batch(batch[:half]), self._store_batch(batch[half:])
            return first + second
        return read_receipt(answer, len(batch))

    def _settle(self, receipt: StoreReceipt, batch: Sequence[Path]) -> StoreReceipt:
        """Ask for what was refused without a word of being there already: some servers say a duplicate like that.

        Raises:
            PacsRefusedError: it is not there.
        """
        doubtful = receipt.doubtful if all(receipt.doubtful) else [one.instance for one in read_identifiers(batch)]
        missing = [uid for uid in doubtful if not self._holds(uid)]
        if missing:
            raise PacsRefusedError(
                f"the PACS did not store {len(missing)} of {len(batch)} results ({receipt.explained()}); see its log"
            )
        return StoreReceipt(len(batch), receipt.present + len(receipt.doubtful), receipt.warned)

    def _holds(self, instance_uid: str) -> bool:
        try:
            uids = self._search(
                "/instances", {"SOPInstanceUID": instance_uid}, _INSTANCE_UID, _instance_uid, enough=1
            )
        except (PacsGoneError, PacsRefusedError, PacsAnswerError, PacsDeniedError):
            return False  # it does not search over all studies: nothing is known
        return instance_uid in uids

    def answers(self) -> bool:
        """Whether the server answers a small search."""
        try:
            self._connection.request(
                "GET", "/studies", params={"limit": "1"}, headers=_JSON, most_bytes=_SEARCH_BYTES, returned=(400, 404)
            )
        except PacsUnavailableError:
            return False
        return True

    def _search(
        self,
        path: str,
        parameters: Mapping[str, str],
        key: str,
        read: Callable[[Attributes], _Read],
        *,
        enough: int | None = None,
        most: int | None = None,
    ) -> list[_Read]:
        """What ``read`` makes of all results, in the server's order, one for each value of ``key``.

        Read a page at a time, until nothing new comes: the results themselves take some ten times as much memory.

        A short page proves nothing: servers cap below what was asked for. Nor does an empty page after full ones:
        Orthanc 1.10.1 counts the offset within the limit when it filters by modality or day, others ignore it. The
        same is asked once more with a limit above the offset. ``enough`` is how many there are, where that is known;
        ``most`` is how many are wanted at all.
        """
        found: dict[str, _Read] = {}
        offset, limit, promised = 0, PAGE, False
        while (page := self._page(path, parameters, offset, limit)) is not None:
            (items, has_more), known = page, len(found)
            for item in items:
                uid = uid_value(item, key)
                if uid and uid not in found:
                    found[uid] = read(item)
                elif not uid:
                    logger.warning("a result without a usable identifier was left out")
            if len(found) == known:
                if not offset or offset % PAGE or limit > offset:
                    break
                limit = 2 * offset + PAGE
                continue
            offset += len(items)
            promised = has_more
            if most is not None and len(found) >= most:
                return list(found.values())[:most]
            if offset > _MOST_RESULTS:
                raise PacsAnswerError(f"the PACS's list does not end after {offset} results")
            if enough is not None and len(found) >= enough and not has_more:
                promised = False
                break
        if promised:
            raise PacsIncompleteError(
                f"the PACS says that there are more than the {len(found)} results it gave, and gives no others; "
                "raise its limit of results"
            )
        return list(found.values())

    def _page(
        self, path: str, parameters: Mapping[str, str], offset: int, limit: int
    ) -> tuple[list[Attributes], bool] | None:
        """Results, and whether the server says that more follow (PS3.18 8.3.4.4); None when it refuses the page."""
        paging = {"limit": str(limit), "offset": str(offset)} if offset else {"limit": str(limit)}
        answer = self._connection.request(
            "GET",
            path,
            params={**parameters, **paging},
            headers=_JSON,
            most_bytes=_SEARCH_BYTES,
            returned=(400, 404, 413, 416) if offset else (400,),
        )
        if answer.status == 400 and not offset:  # a server that knows no limit
            answer = self._connection.request("GET", path, params=parameters, headers=_JSON, most_bytes=_SEARCH_BYTES)
        if answer.status >= 400:
            return None
        items = [] if answer.status == 204 else read_attributes(answer.content, answer.content_type)
        return items, _says_more(answer.headers.get("Warning", ""))


_JSON = {"Accept": "application/dicom+json"}


def _says_more(warning: str) -> bool:
    """Whether a Warning header is the one of results left out, not of an ignored parameter (both are 299)."""
    return re.search(r"\b299\b", warning) is not None and "additional" in warning.lower()


def _is_asked_for(item: Attributes, query: StudyQuery) -> bool:
    """Whether a result is of the patient and order that were asked for: servers may ignore that."""
    pairs = ((_PATIENT_ID, query.patient_id), (_ACCESSION_NUMBER, query.accession_number))
    return all(not wanted or text_value(item, tag) == wanted for tag, wanted in pairs)


def _instance_uid(item: Attributes) -> str:
    return uid_value(item, _INSTANCE_UID)


def _study(item: Attributes) -> RemoteStudy:
    return RemoteStudy(
        uid=uid_value(item, _STUDY_UID),
        instance_count=count_value(item, _STUDY_INSTANCES),
        patient_key=patient_key(text_value(item, _PATIENT_ID)),
        date=text_value(item, _STUDY_DATE),
        description=text_value(item, _STUDY_DESCRIPTION),
    )


def _series(study_uid: str, item: Attributes) -> RemoteSeries | None:
    """A series of this study; None for one of another study."""
    if uid_value(item, _STUDY_UID) not in ("", study_uid):
        return None
    return RemoteSeries(
        study_uid=study_uid,
        uid=uid_value(item, _SERIES_UID),
        instance_count=count_value(item, _SERIES_INSTANCES),
        modality=text_value(item, _MODALITY).upper(),
        body_part=text_value(item, _BODY_PART),
        description=text_value(item, _SERIES_DESCRIPTION),
    )
