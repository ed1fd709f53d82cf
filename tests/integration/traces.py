"""Where anything is still to be found."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import redis
from psycopg import sql


def traces(direct: psycopg.Connection, stored: redis.Redis, text: str) -> list[str]:
    """Where in the database and in Redis the text occurs: as it is, in hexadecimal or escaped."""
    forms = {text.encode(), text.encode().hex().encode(), text.encode("unicode-escape")}
    found = [
        *((table, data) for table, data in _tables(direct)),
        *((f"Redis {key!r}", key + data) for key, data in _entries(stored)),
    ]
    return [where for where, data in found if any(form in data for form in forms)]


def _tables(direct: psycopg.Connection) -> Iterator[tuple[str, bytes]]:
    """Every row of every table, in every schema but the server's own, as a dump has it."""
    tables = direct.execute(
        "SELECT schemaname, tablename FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema')"
    ).fetchall()
    assert len(tables) >= 4
    for schema, table in tables:
        with direct.cursor().copy(sql.SQL("COPY {} TO STDOUT").format(sql.Identifier(schema, table))) as dump:
            yield table, b"".join(bytes(block) for block in dump)


def _entries(stored: redis.Redis) -> Iterator[tuple[bytes, bytes]]:
    """Every key of every database, with its value; all that is kept there are strings."""
    address = stored.connection_pool.connection_kwargs
    databases = [int(name.removeprefix("db")) for name in stored.info("keyspace")]
    for number in databases:
        with redis.Redis(address["host"], address["port"], number, address["password"]) as database:
            for key in database.scan_iter(count=1000):
                if database.type(key) == b"string":
                    yield key, database.get(key) or b""
                else:
                    yield key, repr(database.dump(key)).encode()
