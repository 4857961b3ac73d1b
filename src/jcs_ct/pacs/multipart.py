"""Bodies of DICOMweb's multipart/related messages (RFC 2387, PS3.18 8.6.1): DICOM files as bytes, never parsed here.

Files from a PACS are as little trusted as files from disk: they are written as they came and read by the decoding
child. That is why no DICOM toolkit stands between the network and the disk.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator, Sequence

from jcs_ct.errors import JCSError

_BOUNDARY = re.compile(r'boundary="?([^";]+)"?', re.IGNORECASE)


def encode_parts(files: Sequence[bytes]) -> tuple[bytes, str]:
    """DICOM files -> (body, Content-Type) of a STOW-RS request."""
    boundary = f"jcs-{secrets.token_hex(16)}"
    head = f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode()
    body = b"".join(head + content + b"\r\n" for content in files) + f"--{boundary}--\r\n".encode()
    return body, f'multipart/related; type="application/dicom"; boundary={boundary}'


def decode_parts(body: bytes, content_type: str) -> Iterator[bytes]:
    """The parts of a WADO-RS answer.

    Raises:
        JCSError: no boundary, or a body that does not end with it.
    """
    found = _BOUNDARY.search(content_type)
    if found is None:
        raise JCSError(f"the PACS answered with {content_type or 'no content type'}, multipart/related is expected")
    mark = b"--" + found.group(1).strip().encode()
    start = body.find(mark)
    while start >= 0 and not body.startswith(mark + b"--", start):
        head_end = body.find(b"\r\n\r\n", start)
        following = body.find(b"\r\n" + mark, head_end)
        if head_end < 0 or following < 0:
            raise JCSError("the PACS's answer is cut off before its closing boundary; try again")
        yield body[head_end + 4 : following]
        start = following + 2
    if start < 0:
        raise JCSError("the PACS's answer does not hold the boundary that its header names; try again")
