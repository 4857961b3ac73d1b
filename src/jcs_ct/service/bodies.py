"""What requests carry: JSON that is checked strictly, or bytes as they are."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict


class StrictBody(BaseModel):
    """JSON whose fields are all known and of their own type."""

    model_config = ConfigDict(extra="forbid", strict=True)


def binary_body(kind: str, text: str) -> dict[str, Any]:
    """What OpenAPI says of a request's body that is taken as it is."""
    content = {kind: {"schema": {"type": "string", "format": "binary"}}}
    return {"requestBody": {"required": True, "description": text, "content": content}}
