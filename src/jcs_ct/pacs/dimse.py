"""A PACS without DICOMweb: C-FIND to search, C-GET or C-MOVE to fetch, C-STORE to store, C-ECHO (PS3.4 B, C)."""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.filereader import read_file_meta_info
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless
from pynetdicom import AE, build_context, build_role, evt
from pynetdicom.association import Association
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
    Verification,
)

from jcs_ct.disk_space import GIB
from jcs_ct.errors import ConfigError, OutputError
from jcs_ct.files import prepare_output_folder, write_bytes
from jcs_ct.imaging.elements import DAMAGED_FILE_ERRORS, to_text
from jcs_ct.imaging.headers import CT_SOP_CLASSES, DECODED_SYNTAXES, UNCOMPRESSED_SYNTAXES
from jcs_ct.imaging.identifiers import read_identifiers
from jcs_ct.pacs.archive import Archive, Wanted
from jcs_ct.pacs.association import DimseServer, associated
from jcs_ct.pacs.attributes import checked_uid, is_uid
from jcs_ct.pacs.pdu_limits import PduLimits
from jcs_ct.pacs.receiver import TlsFiles
from jcs_ct.pacs.remote import RemoteSeries, RemoteStudy, StudyQuery, file_name, patient_key
from jcs_ct.pacs.server import (
    PacsAnswerError,
    PacsIncompleteError,
    PacsRefusedError,
    PacsUnavailableError,
)
from jcs_ct.pacs.storing import DUPLICATE_REASONS, StoreReceipt

logger = logging.getLogger(__name__)

_Answer = TypeVar("_Answer")
_SUCCESS, _CANCELLED, _OUT_OF_RESOURCES, _PENDING = 0x0000, 0xFE00, 0xA700, (0xFF00, 0xFF01)
_NOT_ASKED_FOR, _NO_SUCH_DESTINATION = 0xA900, 0xA801
#: Some images or all did not come; which of them is seen on disk.
_NOT_ALL_SENT = (0xB000, 0xA702)
_OBJECT_BYTES = 2 * GIB
_MOST_RESULTS = 2_000_000
_STORED_AS: list[str | UID] = [ExplicitVRLittleEndian, ImplicitVRLittleEndian]


class Dimse(Archive):
    """Requests to one server, each in an association of its own.

    C-FIND knows no pages: a server that cuts its answer without saying so holds studies that are not seen. What it
    lists of a study is compared with what it counts, as over DICOMweb.

    Args:
        server: Address, titles, patience.
        sleep: Waits between retries.
    """

    def __init__(self, server: DimseServer, *, sleep: Callable[[float], None] = time.sleep) -> None:
        self._server, self._sleep = server, sleep

    def close(self) -> None:
        """Nothing stays open between requests."""

    def studies(self, query: StudyQuery | None = None, *, most: int | None = None) -> list[RemoteStudy]:
        """See :meth:`Archive.studies`."""
        query = query or StudyQuery()
        keys = {**_STUDY_KEYS, "ModalitiesInStudy": "CT", "PatientID": query.patient_id}
        keys["AccessionNumber"] = query.accession_number
        if query.since is not None:
            keys["StudyDate"] = f"{query.since:%Y%m%d}-"

        def read(match: Dataset) -> RemoteStudy | None:
            return _study(match) if _is_asked_for(match, query) else None

        found = self._find("STUDY", keys, read, most=most)
        return [one for one in found if one is not None and one.uid and query.admits_date(one.date)]

    def study(self, study_uid: str) -> RemoteStudy:
        """See :meth:`Archive.study`."""
        found = self._find("STUDY", {**_STUDY_KEYS, "StudyInstanceUID": checked_uid(study_uid)}, _study)
        return next((one for one in found if one.uid == study_uid), RemoteStudy(study_uid))

    def _series_of(self, study_uid: str) -> list[RemoteSeries]:
        def read(match: Dataset) -> RemoteSeries | None:
            uid, is_mine = _uid(match, "SeriesInstanceUID"), _text(match, "StudyInstanceUID") in ("", study_uid)
            return _series(study_uid, uid, match) if uid and is_mine else None

        found = self._find("SERIES", {**_SERIES_KEYS, "StudyInstanceUID": checked_uid(study_uid)}, read)
        return list({one.uid: one for one in found if one is not None}.values())

    def _instances_of(self, series: RemoteSeries) -> dict[str, str]:
        keys = {"StudyInstanceUID": checked_uid(series.study_uid), "SeriesInstanceUID": checked_uid(series.uid)}

        def read(match: Dataset) -> tuple[str, str]:
            is_mine = _text(match, "SeriesInstanceUID") in ("", series.uid)
            return (_uid(match, "SOPInstanceUID") if is_mine else "", _text(match, "SOPClassUID"))

        found = self._find("IMAGE", {**keys, "SOPInstanceUID": "", "SOPClassUID": ""}, read)
        return {uid: sop_class for uid, sop_class in found if uid}

    def answers(self) -> bool:
        """Whether the server answers C-ECHO."""
        try:
            with associated(self._server, [build_context(Verification)]) as association:
                return getattr(association.send_c_echo(), "Status", None) == _SUCCESS
        except PacsUnavailableError:
            return False

    def _find(
        self, level: str, keys: dict[str, str], read: Callable[[Dataset], _Answer], *, most: int | None = None
    ) -> list[_Answer]:
        """What ``read`` makes of all matches of a search (PS3.4 C.4.1), or of the first ``most``.

        Read as they come: the matches themselves take some ten times as much memory.

        Raises:
            PacsIncompleteError: the server stops before the end.
            PacsRefusedError: it refuses the search.
        """
        model, identifier = StudyRootQueryRetrieveInformationModelFind, _identifier(level, keys)

        def find() -> list[_Answer]:
            found: list[_Answer] = []
            with associated(self._server, [build_context(model)]) as association:
                for status, match in association.send_c_find(identifier, model):
                    code = _code(status)
                    if code in _PENDING and match is not None:
                        found.append(read(match))
                        if most is not None and len(found) >= most:
                            association.abort()
                            break
                    elif code in _PENDING:
                        raise PacsAnswerError("the PACS answers a search with what is no data set")
                    elif code in (_CANCELLED, _OUT_OF_RESOURCES):
                        raise PacsIncompleteError(
                            f"the PACS stops its list after {len(found)} results; raise its limit of results, or "
                            "name the first day with --since"
                        )
                    elif code != _SUCCESS:
                        raise PacsRefusedError(f"the PACS refuses a search ({code:04X}H); see its log")
                    if len(found) > _MOST_RESULTS:
                        raise PacsAnswerError(f"the PACS's list does not end after {len(found)} results")
            return found

        return self._repeat(find)

    def _fetch(self, wanted: Wanted, folder: Path, advance: Callable[[int], None]) -> None:
        """Series by series; images of a series that did not come, one by one."""
        prepare_output_folder(folder)
        taker = _Taker(folder, frozenset(wanted))
        by_series: dict[RemoteSeries, list[str]] = defaultdict(list)
        for series, uid in wanted.values():
            by_series[series].append(uid)

        def note() -> None:
            advance(len(taker.taken))

        for series, uids in by_series.items():
            if len(uids) == len(series.images):
                self._repeat(lambda series=series: self._retrieve(series, "", taker, note))  # type: ignore[misc]
            for uid in uids:
                if file_name(uid) not in taker.taken:
                    self._repeat(lambda series=series, uid=uid: self._retrieve(series, uid, taker, note))  # type: ignore[misc]

    def _retrieve(self, series: RemoteSeries, uid: str, taker: _Taker, note: Callable[[], None]) -> None:
        """One series, or one image of it.

        Raises:
            PacsRefusedError: the server does not give it.
            OutputError: the disk is full.
        """
        keys = {"StudyInstanceUID": checked_uid(series.study_uid), "SeriesInstanceUID": checked_uid(series.uid)}
        identifier = _identifier("SERIES", keys)
        if uid:
            identifier = _identifier("IMAGE", {**keys, "SOPInstanceUID": checked_uid(uid)})
        with self._retrieving(taker) as (association, send):
            for status, _ in send(association, identifier):
                note()
                code = _code(status)
                if taker.failure is not None:
                    association.abort()
                    raise taker.failure
                if code == _NO_SUCH_DESTINATION:
                    raise PacsRefusedError(
                        f"the PACS knows no destination {self._server.ae_title!r} (A801H); add it there with this "
                        "machine's address and the port of --move-port"
                    )
                if code not in (*_PENDING, _SUCCESS, *_NOT_ALL_SENT):
                    raise PacsRefusedError(f"the PACS does not send the images ({code:04X}H); see its log")

    @contextmanager
    def _retrieving(self, taker: _Taker) -> Iterator[tuple[Association, Callable[[Association, Dataset], Any]]]:
        """An association for a C-GET or a C-MOVE, and how it is asked."""
        server, handlers = self._server, [(evt.EVT_C_STORE, taker.take)]
        if server.move_port is None:
            get = StudyRootQueryRetrieveInformationModelGet
            contexts = [build_context(get), *(build_context(one, syntax) for one, syntax in _IMAGES)]
            roles = [build_role(one, scp_role=True) for one in sorted(CT_SOP_CLASSES)]
            with associated(server, contexts, negotiation=roles, handlers=handlers) as association:
                if get not in {one.abstract_syntax for one in association.accepted_contexts}:
                    raise PacsRefusedError("the PACS does not answer C-GET; name a port for C-MOVE with --move-port")
                yield association, lambda association, identifier: association.send_c_get(identifier, get)
            return
        move = StudyRootQueryRetrieveInformationModelMove
        with (
            _listening(server, handlers),
            associated(server, [build_context(move)], silence_s=server.answer_s) as association,
        ):
            yield (
                association,
                lambda association, identifier: association.send_c_move(identifier, server.ae_title, move),
            )

    def store(self, paths: Sequence[Path], *, advance: Callable[[int, int], None] | None = None) -> StoreReceipt:
        """See :meth:`Archive.store`."""
        if not paths:
            return StoreReceipt(0)
        kinds = [(one.sop_class, _syntax(path)) for one, path in zip(read_identifiers(paths), paths, strict=True)]
        contexts = [build_context(one, _STORED_AS) for one in sorted({sop_class for sop_class, _ in kinds})]
        contexts += [build_context(*one) for one in sorted(set(kinds)) if one[1] not in UNCOMPRESSED_SYNTAXES]

        def store() -> StoreReceipt:
            total = StoreReceipt(0)
            with associated(self._server, contexts) as association:
                accepted = _accepted(association, kinds)
                for done, (path, kind) in enumerate(zip(paths, kinds, strict=True), start=1):
                    total += _store_one(association, path, as_stored=kind in accepted)
                    if advance is not None:
                        advance(done, len(paths))
            return total

        receipt = self._repeat(store)
        if receipt.doubtful:
            raise PacsRefusedError(
                f"the PACS did not store {len(receipt.doubtful)} of {len(paths)} results ({receipt.explained()}); "
                "see its log"
            )
        return receipt

    def _repeat(self, request: Callable[[], _Answer]) -> _Answer:
        """A request that may be made again when nobody answers."""
        for attempt in range(self._server.retries):
            try:
                return request()
            except PacsUnavailableError:
                self._sleep(self._server.backoff_s * 2**attempt)
        return request()


@dataclass(eq=False)
class _Taker:
    """Writes images that were asked for, as they come, and refuses all others.

    Args:
        folder: Where to.
        wanted: Names on disk.
        taken: Those that lie there.
        failure: Why one could not be written.
    """

    folder: Path
    wanted: frozenset[str]
    taken: set[str] = field(default_factory=set)
    failure: OutputError | None = None

    def take(self, event: Any) -> int:
        """Answer one C-STORE request with its status (PS3.4 B.2.3)."""
        name = file_name(str(event.request.AffectedSOPInstanceUID))
        if name not in self.wanted:
            logger.warning("the PACS sent an object that was not asked for; it was refused")
            return _NOT_ASKED_FOR
        content: bytes = event.encoded_dataset()
        if len(content) > _OBJECT_BYTES:
            logger.warning("an object of %d bytes was refused", len(content))
            return _OUT_OF_RESOURCES
        try:
            write_bytes(self.folder / name, content)
        except OutputError as error:
            self.failure = error
            return _OUT_OF_RESOURCES
        self.taken.add(name)
        return _SUCCESS


@contextmanager
def _listening(server: DimseServer, handlers: list[Any]) -> Iterator[None]:
    """Take what a C-MOVE sends, while it lasts.

    Raises:
        ConfigError: the port cannot be opened.
    """
    entity = AE(ae_title=server.ae_title)
    entity.require_called_aet = True
    entity.network_timeout = entity.acse_timeout = entity.dimse_timeout = server.timeout_s
    for one, syntax in _IMAGES:
        entity.add_supported_context(one, syntax)
    context = None
    if server.is_tls and server.certificate is not None and server.key is not None:
        context = TlsFiles(server.certificate, server.key, Path(server.ca_bundle)).context(server.timeout_s)
    try:
        listener = entity.start_server(
            ("127.0.0.1" if server.is_local else "0.0.0.0", server.move_port or 0),
            block=False,
            evt_handlers=[*handlers, *PduLimits(server.timeout_s, _OBJECT_BYTES).handlers()],
            ssl_context=context,
        )
    except OSError as error:
        raise ConfigError(
            f"port {server.move_port} for what the PACS sends cannot be opened: {error.strerror}; choose another"
        ) from error
    try:
        yield
    finally:
        if listener is not None:
            listener.shutdown()


#: CT images in every encoding that is read later, each in a context of its own: so they come as they are stored.
_IMAGES = [
    (sop_class, syntax)
    for sop_class in sorted(CT_SOP_CLASSES)
    for syntax in sorted(UNCOMPRESSED_SYNTAXES | DECODED_SYNTAXES)
]
_STUDY_KEYS = {
    "StudyInstanceUID": "",
    "PatientID": "",
    "StudyDate": "",
    "StudyDescription": "",
    "ModalitiesInStudy": "",
    "NumberOfStudyRelatedInstances": "",
}
_SERIES_KEYS = {
    "SeriesInstanceUID": "",
    "Modality": "",
    "SeriesDescription": "",
    "BodyPartExamined": "",
    "NumberOfSeriesRelatedInstances": "",
}


def _identifier(level: str, keys: dict[str, str]) -> Dataset:
    identifier = Dataset()
    identifier.QueryRetrieveLevel = level
    for keyword, value in keys.items():
        setattr(identifier, keyword, value)
    return identifier


def _code(status: Dataset) -> int:
    """The status of an answer; an empty one says that the association is lost (pynetdicom).

    Raises:
        PacsUnavailableError: it is.
    """
    code = getattr(status, "Status", None)
    if code is None:
        raise PacsUnavailableError(
            "the PACS went silent or ended the association in the middle of an answer; it may not know this AE title"
        )
    return int(code)


def _syntax(path: Path) -> str:
    """The transfer syntax of a DICOM file.

    Raises:
        ConfigError: it states none.
    """
    syntax = to_text(read_file_meta_info(path).get("TransferSyntaxUID"))
    if not syntax:
        raise ConfigError(f"{path.name} states no transfer syntax (PS3.10 7.1); export it again, or leave it out")
    return syntax


def _accepted(association: Association, kinds: Sequence[tuple[str, str]]) -> set[tuple[str, str]]:
    """Those of the SOP classes and transfer syntaxes of files that the server takes as they are.

    Raises:
        PacsRefusedError: it takes some of them in no way; nothing was sent.
    """
    contexts = {(str(one.abstract_syntax), str(one.transfer_syntax[0])) for one in association.accepted_contexts}
    plain = {sop_class for sop_class, syntax in contexts if syntax in UNCOMPRESSED_SYNTAXES}
    accepted = {kind for kind in kinds if kind in contexts or (kind[1] in UNCOMPRESSED_SYNTAXES and kind[0] in plain)}
    unpacked = {(sop_class, str(RLELossless)) for sop_class in plain}
    refused = sorted(set(kinds) - accepted - unpacked)
    if refused:
        named = ", ".join(f"{UID(sop_class).name} in {UID(syntax).name}" for sop_class, syntax in refused)
        raise PacsRefusedError(f"the PACS does not take {named}; nothing was sent, see what it supports")
    return accepted


def _store_one(association: Association, path: Path, *, as_stored: bool) -> StoreReceipt:
    """Store one file; of a server that does not take RLE, the same object without it."""
    try:
        status = association.send_c_store(path if as_stored else _unpacked(path))
    except (ValueError, RuntimeError) as error:
        if not association.is_established:
            raise PacsUnavailableError("the PACS ended the association while results were stored") from error
        raise PacsRefusedError(f"the PACS does not take objects as {path.name}; see what it supports") from error
    code = _code(status)
    if code in DUPLICATE_REASONS:
        return StoreReceipt(1, present=1)
    if code == _SUCCESS or code >> 12 == 0xB:
        return StoreReceipt(1, warned=int(code != _SUCCESS))
    return StoreReceipt(0, doubtful=("",), reasons=(code,))


def _unpacked(path: Path) -> Dataset:
    """An object with its pixels in Explicit VR Little Endian, under its own identifier: RLE loses nothing."""
    dataset = dcmread(path)
    dataset.decompress(generate_instance_uid=False)
    return dataset


def _study(match: Dataset) -> RemoteStudy:
    return RemoteStudy(
        uid=_uid(match, "StudyInstanceUID"),
        instance_count=_count(match, "NumberOfStudyRelatedInstances"),
        patient_key=patient_key(_text(match, "PatientID")),
        date=_text(match, "StudyDate"),
        description=_text(match, "StudyDescription"),
    )


def _series(study_uid: str, uid: str, match: Dataset) -> RemoteSeries:
    return RemoteSeries(
        study_uid=study_uid,
        uid=uid,
        instance_count=_count(match, "NumberOfSeriesRelatedInstances"),
        modality=_text(match, "Modality").upper(),
        body_part=_text(match, "BodyPartExamined"),
        description=_text(match, "SeriesDescription"),
    )


def _is_asked_for(match: Dataset, query: StudyQuery) -> bool:
    """Whether a study may hold CT, and is of the patient and order that were asked for: servers may ignore that."""
    stated = _text(match, "ModalitiesInStudy")
    may_hold_ct = not stated or "CT" in stated.split("\\")
    pairs = (("PatientID", query.patient_id), ("AccessionNumber", query.accession_number))
    return may_hold_ct and all(not wanted or _text(match, keyword) == wanted for keyword, wanted in pairs)


def _text(match: Dataset, keyword: str) -> str:
    """A value as text; empty when it is not stated, or cannot be read."""
    try:
        return to_text(match.get(keyword))
    except DAMAGED_FILE_ERRORS:
        return ""


def _uid(match: Dataset, keyword: str) -> str:
    text = _text(match, keyword)
    return text if is_uid(text) else ""


def _count(match: Dataset, keyword: str) -> int | None:
    text = _text(match, keyword)
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None
