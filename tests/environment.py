"""Sets the environment of the tests; loaded by pytest before Django reads its settings."""

import os
from pathlib import Path

SERVICES = Path(__file__).resolve().parent.parent / ".services" / "env"

if SERVICES.exists():
    os.environ.update(dict(line.split("=", 1) for line in SERVICES.read_text().splitlines()))

os.environ["ACTIVITIES_BACKEND"] = "memory"
os.environ["DJANGO_SECRET_KEY"] = "a-key-for-tests-only-0123456789abcdefghijklmnop"
os.environ["ACTIVITIES_SERVICE_TOKENS"] = (
    "interface:service-secret-0123456789abcdefghij,watcher:reading-secret-0123456789abcdefghij:read"
)
