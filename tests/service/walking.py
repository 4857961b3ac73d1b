"""Every route of the page with what it needs to be asked: those that OpenAPI describes, and the pages beside them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

#: Pages for people; they are not in the interface's description.
PAGES = (("GET", "/"), ("GET", "/worklist"), ("GET", "/studies/{study_id}"), ("GET", "/audit"), ("POST", "/logout"))
#: What needs no session.
OPEN = (("GET", "/login"), ("POST", "/login"), ("GET", "/health"))
ABSENT = "0" * 24

#: Names and values that lead elsewhere, as they stand in an address.
PATH_TRICKS = (
    "..",
    ".",
    "../..",
    "../../../../../../etc/passwd",
    "..%2f..%2f..%2f..%2f..%2fetc%2fpasswd",
    "%2e%2e%2f%2e%2e%2fservice.sqlite",
    "..%5c..%5cservice.sqlite",
    "%252e%252e%252fservice.sqlite",
    "....//....//service.sqlite",
    "..;/service.sqlite",
    "/etc/passwd",
    "//etc/passwd",
    "%2fetc%2fpasswd",
    "file:///etc/passwd",
    "http://127.0.0.1:1/",
    "service.sqlite",
    "state/diagnosis.npz",
    "viewer/../state/diagnosis.npz",
    "report.json%00.png",
    "%00",
    "%0d%0aSet-Cookie:%20a=b",
    "~root",
    "C:%5cWindows%5cwin.ini",
    "%ff%fe",
    "%ef%bc%8e%ef%bc%8e%ef%bc%8fservice.sqlite",
    "'%20OR%201=1%20--",
    "%3cscript%3ealert(1)%3c/script%3e",
    "x" * 5000,
)
#: What an answer holds only when something leaked.
LEAKS = (b"root:x:", b"SQLite format", b"from __future__", b"Traceback", b"BEGIN PRIVATE", b"<script>alert(1)")


@dataclass(frozen=True)
class Route:
    """One route.

    Args:
        method, path: As the description has them.
        needed: Query parameters that must be given, with values that are allowed.
        given: Query parameters that may be given.
        body: A body that is allowed, or None.
    """

    method: str
    path: str
    needed: Mapping[str, str] = field(default_factory=dict)
    given: tuple[str, ...] = ()
    body: Mapping[str, Any] | None = None

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names in the path."""
        return tuple(part[1:].split("}")[0].split(":")[0] for part in self.path.split("/") if part.startswith("{"))

    def target(self, values: Mapping[str, str], **query: str) -> str:
        """Path and query, with ``values`` as they stand; those of the query are already encoded, too."""
        path = self.path
        for name in self.parameters:
            path = path.replace(f"{{{name}:path}}", values[name]).replace(f"{{{name}}}", values[name])
        asked = {**self.needed, **query}
        return path + ("?" if asked else "") + "&".join(f"{name}={value}" for name, value in asked.items())


def routes(described: Mapping[str, Any]) -> list[Route]:
    """What an OpenAPI description lists, and the pages."""
    found = [
        _route(described, method.upper(), path, operation)
        for path, operations in described["paths"].items()
        for method, operation in operations.items()
    ]
    pages = [Route(method, path) for method, path in PAGES]
    return [route for route in [*found, *pages] if (route.method, route.path) not in OPEN]


def _route(described: Mapping[str, Any], method: str, path: str, operation: Mapping[str, Any]) -> Route:
    query = [one for one in operation.get("parameters", []) if one["in"] == "query"]
    needed = {one["name"]: quote(str(_value(described, one["schema"]))) for one in query if one["required"]}
    content = operation.get("requestBody", {}).get("content", {})
    schema = content.get("application/json", {}).get("schema")
    body = None if schema is None else _value(described, schema)
    if path.endswith("/studies") and method == "POST":
        body = {"folder": "incoming", "name": "phantom.zip"}
    return Route(method, path, needed, tuple(one["name"] for one in query), body)


def _value(described: Mapping[str, Any], schema: Mapping[str, Any]) -> Any:
    """The smallest value that a schema allows."""
    if "$ref" in schema:
        return _value(described, described["components"]["schemas"][schema["$ref"].rpartition("/")[2]])
    kind = schema.get("type")
    if kind == "object":
        return {name: _value(described, schema["properties"][name]) for name in schema.get("required", ())}
    if kind == "array":
        return [_value(described, schema["items"])]
    return {"string": "x", "integer": 0, "number": 0, "boolean": True}[kind]


def text_fields(body: Any, place: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """Where in a body texts stand."""
    if isinstance(body, str):
        return [place]
    items = body.items() if isinstance(body, Mapping) else enumerate(body) if isinstance(body, list) else ()
    return [found for name, value in items for found in text_fields(value, (*place, name))]


def replaced(body: Any, place: tuple[str | int, ...], value: str) -> Any:
    """A copy of a body with another text at a place."""
    copy = json.loads(json.dumps(body))
    holder = copy
    for name in place[:-1]:
        holder = holder[name]
    holder[place[-1]] = value
    return copy
