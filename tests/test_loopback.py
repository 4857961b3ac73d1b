from __future__ import annotations

import pytest

from jcs_ct.errors import ConfigError
from jcs_ct.loopback import is_loopback
from jcs_ct.pacs.server import PacsServer


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.0.0.2", "::1", "[::1]"])
def test_this_machine(host):
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "127.example.org", "localhost.example.org", ""])
def test_any_other(host):
    assert not is_loopback(host)


def test_a_token_crosses_no_network_in_the_clear():
    PacsServer("http://127.0.0.2:8042", token="a")
    with pytest.raises(ConfigError, match="in the clear"):
        PacsServer("http://10.0.0.1:8042", token="a")
