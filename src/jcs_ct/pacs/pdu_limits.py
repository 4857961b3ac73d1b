"""Limits on what a DIMSE peer sends: pynetdicom counts silence alone, believes any length, keeps all of a message.

A peer that sends a byte now and then, one that announces 4 GiB, and one whose object never ends would each hold a
place, or the memory, for as long as they like.
"""

from __future__ import annotations

import logging
import socket
import time
import weakref
from dataclasses import dataclass, field
from typing import Any

from pynetdicom import evt

logger = logging.getLogger(__name__)

#: We announce 16 KiB to our peers (PS3.8 D.1); a request for an association with every context is larger.
_PDU_BYTES = 1024**2
_BLOCK_BYTES = 1 << 16


@dataclass(eq=False)
class PduLimits:
    """Ends associations whose peer is too slow or sends too much.

    Args:
        pdu_s: Longest time for one protocol data unit (PDU, PS3.8 9.3), from its first byte to its last.
        message_bytes: What the PDUs of one message, such as a C-STORE request with its object, may weigh together.
    """

    pdu_s: float
    message_bytes: int
    _received: weakref.WeakKeyDictionary[Any, int] = field(default_factory=weakref.WeakKeyDictionary)

    def handlers(self) -> list[Any]:
        """For ``evt_handlers`` of pynetdicom's servers and associations."""
        return [(evt.EVT_CONN_OPEN, self._opened), (evt.EVT_DIMSE_RECV, self._begin_message)]

    def _opened(self, event: Any) -> None:
        association = event.assoc
        association.dul.socket.recv = lambda count: self._receive(association, association.dul.socket.socket, count)

    def _begin_message(self, event: Any) -> None:
        self._received[event.assoc] = 0

    def _receive(self, association: Any, connection: socket.socket, count: int) -> bytearray:
        """So many bytes, or fewer, which ends the association as a lost connection does."""
        received = self._received.get(association, 0) + count
        if count > _PDU_BYTES or received > self.message_bytes:
            logger.warning("an association was ended: its peer sends more than it may")
            return bytearray()
        self._received[association] = received
        content, silence_s, deadline = bytearray(), connection.gettimeout(), time.monotonic() + self.pdu_s
        try:
            while len(content) < count:
                connection.settimeout(max(0.001, deadline - time.monotonic()))
                block = connection.recv(min(_BLOCK_BYTES, count - len(content)))
                if not block:
                    break
                content += block
            connection.settimeout(silence_s)
        except OSError as error:  # TimeoutError and ssl.SSLError are
            logger.warning("an association was ended: its peer is too slow, or gone (%s)", type(error).__name__)
        return content
