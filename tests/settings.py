"""Settings of the tests' own process: memory by default, and beside it a database and a Redis of this run's own."""

import os

from activities_project.environment import durable_database, redis_cache
from activities_project.settings import *  # noqa: F403

if "DATABASE_URL" in os.environ:
    DATABASES = {"default": durable_database(os.environ["DATABASE_URL"])}
    DATABASES["default"]["NAME"] = f"activities_test_{os.getpid()}"
    CACHES = {"default": redis_cache(os.environ["REDIS_URL"])}
