"""Archives that are made to do harm, and what the gate says of them."""

from __future__ import annotations

import io
import zipfile


def archive_of(name: str, content: bytes, *, link: bool = False) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as package:
        info = zipfile.ZipInfo(name)
        info.compress_type = zipfile.ZIP_DEFLATED
        if link:
            info.external_attr = 0o120777 << 16
        package.writestr(info, content)
    return out.getvalue()


#: Name -> how it is made, the gate's code, words of the message.
HOSTILE = {
    "zip slip": (lambda: archive_of("../../evil.dcm", b"x"), "UNSUPPORTED", "leads outside"),
    "zip bomb": (lambda: archive_of("bomb.bin", b"\0" * (300 << 20)), "UNSUPPORTED", "unpacks to more"),
    "link in a zip": (lambda: archive_of("link", b"/etc/passwd", link=True), "UNSUPPORTED", "holds a link"),
    "damaged zip": (lambda: b"PK\x03\x04 no zip at all", "UNREADABLE", "damaged"),
}
