"""What goes wrong with a store behind an address, as errors that say what to do and show no credentials.

Each store's library has errors of its own: those of S3, GCS and Azure are no OSError, and their texts hold addresses.
They are told apart by their types' names and the status that the store answered, without importing any of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from urllib.parse import urlsplit

from jcs_ct.disk_space import NO_ROOM, is_disk_full
from jcs_ct.errors import ConfigError, JCSError, NotFoundError, OutputError
from jcs_ct.files import explain_temporary

#: In the names of errors that say that there are no credentials, or that they are refused.
_OF_CREDENTIALS = ("Credential", "ProfileNotFound", "Authentication", "Token", "Permission", "Forbidden")
#: In the names of errors that say that what is asked for cannot be the name of anything.
_OF_NAMES = ("ParamValidation", "ValueError", "InvalidURL", "ImportError", "ModuleNotFoundError")
_DENIED, _ABSENT = (401, 403), (404,)


class NotFetchedError(JCSError):
    """A study is not where it was found, or its store does not give it."""

    code = "NOT_FETCHED"


def without_credentials(address: str) -> str:
    """An address as it may be shown: without name and password before its host, and without a signature behind it."""
    scheme, _, rest = address.partition("://")
    host, slash, path = rest.partition("/")
    host = host.rpartition("@")[2]
    signed = urlsplit(address).query and scheme in ("http", "https")
    return f"{scheme}://{host}{slash}{path.partition('?')[0] if signed else path}"


@contextmanager
def reading(address: str) -> Iterator[None]:
    """Calls that read from the store of an address.

    Raises:
        NotFoundError: there is no such bucket or object.
        ConfigError: the store wants other credentials, or the address cannot be used.
        NotFetchedError: the store does not answer, or anything else goes wrong there.
        OutputError: the temporary folder has no room for what is read.
    """
    try:
        yield
    except JCSError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno in NO_ROOM:
            raise explain_temporary(error) from error
        raise _unreadable(without_credentials(address), error) from error


def _unreadable(address: str, error: Exception) -> JCSError:
    kind, status = type(error).__name__, _status(error)
    if isinstance(error, FileNotFoundError) or status in _ABSENT:
        what = "check the name of the bucket and what follows it"
        return NotFoundError(f"{address} cannot be read: there is no such bucket or object; {what}", remedy=what)
    if isinstance(error, PermissionError) or status in _DENIED or any(part in kind for part in _OF_CREDENTIALS):
        what = "give credentials that may list and read it, where the store's library looks for them"
        return ConfigError(f"{address} cannot be read: no permission ({kind}); {what}", remedy=what)
    if any(part in kind for part in _OF_NAMES):
        what = "mend it; for s3:// install 'jcs-ct[cluster]'"
        return ConfigError(f"the address {address} cannot be used ({kind}); {what}", remedy=what)
    what = "see that the store and its endpoint can be reached from here, and try again"
    return NotFetchedError(f"{address} cannot be read: its store does not answer ({kind}); {what}", remedy=what)


def _status(error: BaseException | None) -> int | None:
    """The HTTP status that a store answered, as botocore, aiohttp, gcsfs and Azure each keep it."""
    while error is not None:
        response = getattr(error, "response", None)
        if isinstance(response, Mapping):
            found = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        else:
            values = (getattr(error, name, None) for name in ("status", "status_code", "code"))
            found = next((value for value in values if isinstance(value, int)), None)
        if isinstance(found, int):
            return found
        error = error.__cause__
    return None


@contextmanager
def storing(address: str) -> Iterator[None]:
    """Calls to the store of an address that results go to: whatever goes wrong in one is the store's, not a study's.

    Raises:
        OutputError: something did (DISK_FULL, else OUTPUT_UNWRITABLE).
    """
    try:
        yield
    except JCSError:
        raise
    except Exception as error:
        code, do = "OUTPUT_UNWRITABLE", "check the address and your credentials"
        if is_disk_full(error):
            code, do = "DISK_FULL", "free space there"
        message = f"cannot write to {without_credentials(address)}: {type(error).__name__}; {do} ({code})"
        raise OutputError(message, code=code, remedy=do) from error
