"""Servers that demand certificates and passwords, with the product's tables, topics and ACLs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.faults.product import manage
from tests.secured.servers import COMPOSE, SecuredServices


@pytest.fixture(scope="package")
def all_services() -> Iterator[SecuredServices]:
    # Not among pytest's folders, which the next run closes to servers that drop root.
    with TemporaryDirectory(prefix="activities-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        services = SecuredServices(folder)
        try:
            for process in ("migrate", "topics"):
                manage(services.environment_of(process), *COMPOSE[process]["command"])
            yield services
        finally:
            services.mend()
            services.stop()


@pytest.fixture
def services(all_services: SecuredServices) -> Iterator[SecuredServices]:
    """Mended afterwards."""
    yield all_services
    all_services.mend()
