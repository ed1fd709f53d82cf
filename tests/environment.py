"""Sets the environment of the tests; loaded by pytest before Django reads its settings."""

import os
from pathlib import Path

import pytest

SERVICES = Path(__file__).resolve().parent.parent / ".services" / "env"

if SERVICES.exists():
    os.environ.update(dict(line.split("=", 1) for line in SERVICES.read_text().splitlines()))

os.environ["ACTIVITIES_BACKEND"] = "memory"
os.environ["DJANGO_SECRET_KEY"] = "a-key-for-tests-only-0123456789abcdefghijklmnop"
os.environ["ACTIVITIES_SERVICE_TOKENS"] = (
    "interface:service-secret-0123456789abcdefghij,watcher:reading-secret-0123456789abcdefghij:read"
)
os.environ["ACTIVITIES_REQUESTS_PER_MINUTE"] = "0"  # tests ask more than anybody would; those of the bound set one

NEEDED = {
    "PostgreSQL": "DATABASE_DIRECT_URL",
    "pgbouncer": "DATABASE_URL",
    "Redis": "REDIS_URL",
    "Kafka": "KAFKA_BOOTSTRAP_SERVERS",
}


def require_services() -> None:
    """A service that is missing fails the run: nothing is skipped."""
    missing = [service for service, variable in NEEDED.items() if not os.environ.get(variable)]
    if missing:
        pytest.fail(f"missing: {', '.join(missing)}; run `make test`, or `make services` before pytest")
