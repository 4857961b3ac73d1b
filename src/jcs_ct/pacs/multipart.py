"""Bodies of DICOMweb's multipart/related messages (RFC 2387, PS3.18 8.6.1): DICOM files as bytes, never parsed here.

Files from a PACS are as little trusted as files from disk: they are written as they came and read by the decoding
child. That is why no DICOM toolkit stands between the network and the disk.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator, Sequence

from jcs_ct.pacs.server import PacsAnswerError

_BOUNDARY = re.compile(r'\bboundary=(?:"([^"]+)"|([^\s";]+))', re.IGNORECASE)
_LENGTH = re.compile(rb"^content-length:[ \t]*([0-9]{1,12})[ \t]*\r?$", re.IGNORECASE | re.MULTILINE)


def encode_parts(files: Sequence[bytes]) -> tuple[bytes, str]:
    """DICOM files -> (body, Content-Type) of a STOW-RS request."""
    boundary = f"jcs-{secrets.token_hex(16)}"
    head = f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode()
    body = b"".join(head + content + b"\r\n" for content in files) + f"--{boundary}--\r\n".encode()
    return body, f'multipart/related; type="application/dicom"; boundary={boundary}'


def decode_parts(body: bytes, content_type: str) -> Iterator[bytes]:
    """The parts of an answer; the whole body where the server sends a bare ``application/dicom``.

    Lines may end in CRLF, as the RFC wants, or in LF; text before the first boundary is skipped.

    Raises:
        PacsAnswerError: no boundary, a body that does not end with it, or a part that is not as long as it says.
    """
    kind = content_type.partition(";")[0].strip().lower()
    if kind in ("application/dicom", "application/octet-stream"):
        yield body
        return
    found = _BOUNDARY.search(content_type)
    if found is None or not kind.startswith("multipart/"):
        raise PacsAnswerError(
            f"the PACS answered with {kind[:60] or 'no content type'}, multipart/related is expected"
        )
    mark = b"--" + (found.group(1) or found.group(2)).strip().encode()
    start = _first_boundary(body, mark)
    newline = b"\r\n" if body.startswith(b"\r\n", start + len(mark)) else b"\n"
    while not body.startswith(mark + b"--", start):
        head_end = body.find(newline * 2, start)
        following = body.find(newline + mark, head_end)
        if head_end < 0 or following < 0:
            raise PacsAnswerError("the PACS's answer is cut off before its closing boundary; try again")
        content = body[head_end + 2 * len(newline) : following]
        stated = _LENGTH.search(body, start, head_end + len(newline))
        if stated is not None and int(stated.group(1)) != len(content):
            raise PacsAnswerError(
                f"a part of the PACS's answer has {len(content)} bytes and states {int(stated.group(1))}; try again"
            )
        yield content
        start = following + len(newline)
    if body[start + len(mark) + 2 :].strip():
        raise PacsAnswerError("the PACS's answer goes on after its closing boundary; try again")


def _first_boundary(body: bytes, mark: bytes) -> int:
    """Where the first boundary begins a line."""
    start = body.find(mark)
    while start > 0 and body[start - 1 : start] != b"\n":
        start = body.find(mark, start + 1)
    if start < 0:
        raise PacsAnswerError("the PACS's answer does not hold the boundary that its header names; try again")
    return start
