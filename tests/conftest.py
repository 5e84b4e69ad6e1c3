"""What many tests share."""

from collections.abc import Iterator

import pytest

from tests.servers import running_server


@pytest.fixture(scope="session")
def server_url() -> Iterator[str]:
    """One server on the self-test model for all tests that leave it as they found it."""
    with running_server() as url:
        yield url
