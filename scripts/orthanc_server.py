"""A real Orthanc on loopback (Debian packages orthanc, orthanc-dicomweb)."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

ORTHANC = shutil.which("Orthanc")
PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")


class Orthanc:
    """One server with its storage; can be stopped and started again.

    Args:
        folder: Where it keeps everything.
        users: Name -> password of those who may use it; empty for everyone on this machine.
        callers: AE title -> port on this machine of those that may use DIMSE; it is off without any.
    """

    def __init__(
        self, folder: Path, *, users: Mapping[str, str] | None = None, callers: Mapping[str, int] | None = None
    ) -> None:
        with socket.socket() as free, socket.socket() as other:
            free.bind(("127.0.0.1", 0))
            other.bind(("127.0.0.1", 0))
            self.port, self.dicom_port = free.getsockname()[1], other.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._configuration = folder / "orthanc.json"
        settings = {
            "StorageDirectory": str(folder / "storage"),
            "IndexDirectory": str(folder / "index"),
            "HttpPort": self.port,
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": bool(users),
            "RegisteredUsers": dict(users or {}),
            "DicomServerEnabled": bool(callers),
            "DicomPort": self.dicom_port,
            "DicomCheckCalledAet": True,
            "DicomCheckModalityHost": True,
            **{f"DicomAlwaysAllow{request}": False for request in ("Echo", "Find", "Get", "Move", "Store")},
            "DicomModalities": {
                title: {"AET": title, "Host": "127.0.0.1", "Port": port, "AllowGet": True}
                for title, port in (callers or {}).items()
            },
            "Plugins": [str(PLUGIN)],
        }
        self._configuration.write_text(json.dumps(settings))
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start, and wait until it answers."""
        self._process = subprocess.Popen(
            [str(ORTHANC), str(self._configuration)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        for _ in range(600):
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=5):
                    return
            except OSError:
                time.sleep(0.1)
        raise RuntimeError("Orthanc did not start within a minute")

    def stop(self) -> None:
        """Stop; the storage stays."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(60)
            self._process = None
