"""What the page answers when it cannot do what was asked: a status, a code, and what to do."""

from __future__ import annotations

from typing import Any


class Problem(Exception):  # noqa: N818 - it is the answer's name (RFC 9457), not a fault of the program
    """An answer of class 4xx or 5xx.

    Args:
        status: HTTP status.
        code: One word in capitals, as in the command line.
        message: What was expected, what came, what to do.
        retry_after_s: For the Retry-After header.
        facts: Further JSON values of the answer.
    """

    def __init__(
        self, status: int, code: str, message: str, *, retry_after_s: float | None = None, **facts: Any
    ) -> None:
        super().__init__(f"{message} ({code})")
        self.status, self.code, self.message = status, code, message
        self.retry_after_s, self.facts = retry_after_s, facts

    def content(self) -> dict[str, Any]:
        """As JSON values."""
        return {"code": self.code, "message": self.message, **self.facts}

    def headers(self) -> dict[str, str]:
        """Headers that belong to it."""
        return {} if self.retry_after_s is None else {"Retry-After": str(max(1, round(self.retry_after_s)))}


NOT_SEEN = Problem(404, "UNKNOWN_STUDY", "there is no such study, or it is not shared with you")
