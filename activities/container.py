"""The one place that reads settings and chooses the parts of a process."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING

from django.conf import settings

from activities.access import Access, Revocations
from activities.domain import ActivitiesError
from activities.fair_use import FairUse
from activities.ports import Activities, Call, Chats, Repository
from activities.repositories.guarded import Guard, GuardedRepository
from activities.repositories.memory import MemoryRepository
from activities.repositories.windows import MemoryWindows, SharedWindows, Windows
from activities.service import ActivityService, ChatService
from activities.streams import StreamSlots
from activities.tls import ClientTls, client_tls
from kafka_worker.security import OPEN, Security

if TYPE_CHECKING:
    from redis import ConnectionPool

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Container:
    """What a transport needs."""

    activities: Activities
    chats: Chats
    access: Access
    streams: StreamSlots
    ready: Callable[[Call], None]
    """Returns when the storage answers, raises the error that tells why not."""
    close: Callable[[], None]
    """Lets what is under way end and gives everything back."""
    purge: Callable[[Call], bool] = lambda _: False
    """Drops some of what the store need not know any more; returns whether there may be more."""


@cache
def container() -> Container:
    """The parts of this process, chosen by its settings."""
    if settings.ACTIVITIES_BACKEND == "kafka":
        return on_queue(
            servers=settings.KAFKA_BOOTSTRAP_SERVERS,
            security=settings.KAFKA_SECURITY,
            connections=outcome_connections,
            data=unqueued(),
        )
    parts = unqueued()
    if settings.ACTIVITIES_BACKEND == "postgres":
        threading.Thread(target=purge_all, args=[parts], name="purge", daemon=True).start()
    return parts


def purge_all(parts: Container) -> None:
    """Drops all that the store need not know any more, a batch an access, as long as it answers.

    It runs beside the service, which is to start whatever becomes of this.
    """
    try:
        while parts.purge(Call()):
            pass
    except ActivitiesError as error:
        logger.info("not everything old was purged: %s", type(error).__name__)
    except Exception:
        logger.exception("not everything old was purged")


def unqueued() -> Container:
    """The parts without the queue: what has to do with chats alone needs none."""
    if settings.ACTIVITIES_BACKEND in ("grpc", "kafka"):
        return on_service(
            target=settings.ACTIVITIES_GRPC_TARGET, token=settings.ACTIVITIES_GRPC_TOKEN, tls=client_tls()
        )
    if settings.ACTIVITIES_BACKEND == "memory":
        most = settings.ACTIVITIES_MAX_PER_CHAT
        return on_repository(MemoryRepository(max_activities=most, token_lifetime=token_lifetime()))
    return on_repository(durable_repository())


def utc_now() -> datetime:
    return datetime.now(UTC)


def erase_outcomes(chat_id: int) -> None:
    """Erases what Redis still holds of a chat's commands, where this process knows one."""
    if settings.REDIS_URL:
        from kafka_worker.outcomes import erase

        erase(outcome_connections, chat_id)


def on_repository(
    repository: Repository,
    *,
    clock: Callable[[], datetime] = utc_now,
    erase_outcomes: Callable[[int], None] = erase_outcomes,
) -> Container:
    """The parts of a data service on this store. `clock` decides what day it is."""
    guard = Guard(slots=settings.ACTIVITIES_STORAGE_SLOTS, limit=settings.ACTIVITIES_STORAGE_SECONDS)
    guarded = GuardedRepository(repository, guard)
    chats = ChatService(guarded, clock=clock, erase_outcomes=erase_outcomes)
    windows = request_windows()

    def close() -> None:
        windows.close()
        guarded.close()

    return Container(
        activities=ActivityService(guarded, clock=clock),
        chats=chats,
        access=access(Revocations(chats).valid_after, windows),
        streams=StreamSlots(settings.ACTIVITIES_MAX_STREAMS),
        ready=lambda call: guarded.ping(call=call),
        close=close,
        purge=chats.purge,
    )


def durable_repository() -> Repository:
    """PostgreSQL behind the cache."""
    from django_redis import get_redis_connection

    from activities.repositories.cached import Cache, CachedRepository
    from activities.repositories.database import Database
    from activities.repositories.postgres import PostgresRepository

    slots = settings.ACTIVITIES_STORAGE_SLOTS
    longest_read = settings.ACTIVITIES_STORAGE_SECONDS + 1  # the second within which every store ends
    in_front = Cache(lambda: get_redis_connection().connection_pool, most=slots, longest_read=longest_read)
    in_front.connect()
    most = settings.ACTIVITIES_MAX_PER_CHAT
    behind = PostgresRepository(max_activities=most, token_lifetime=token_lifetime(), database=Database(most=slots))
    return CachedRepository(behind, in_front)


def on_service(*, target: str, token: str, tls: ClientTls | None = None) -> Container:
    """The parts of an interface service on the data service at `target`, which is shown our service `token`."""
    from grpc_server.client import Remote  # only the interface service needs it

    remote = Remote(target=target, token=token, limit=settings.ACTIVITIES_STORAGE_SECONDS, tls=tls)
    windows = request_windows()

    def close() -> None:
        windows.close()
        remote.close()

    return Container(
        activities=remote.activities,
        chats=remote.chats,
        access=access(Revocations(remote.chats).valid_after, windows),
        streams=StreamSlots(settings.ACTIVITIES_MAX_STREAMS),
        ready=remote.ready,
        close=close,
    )


def on_queue(
    *, servers: str, security: Security = OPEN, connections: Callable[[], ConnectionPool], data: Container
) -> Container:
    """The parts of an interface service that writes through Kafka and does everything else on the service `data`.

    The outcomes come over Redis, to which `connections` lead.
    """
    from kafka_worker.client import CommandProducer, QueuedActivities
    from kafka_worker.outcomes import Listener

    limit = settings.ACTIVITIES_STORAGE_SECONDS
    producer, listener = CommandProducer(servers, limit=limit, security=security), Listener(connections)

    def ready(call: Call) -> None:
        data.ready(call)
        producer.ready(min(call.asked_at + limit, call.deadline))

    def close() -> None:
        producer.close()
        listener.close()
        data.close()

    activities = QueuedActivities(reads=data.activities, producer=producer, listener=listener, limit=limit)
    return replace(data, activities=activities, ready=ready, close=close)


def outcome_connections() -> ConnectionPool:
    """Connections to the Redis through which outcomes are told."""
    from redis import ConnectionPool

    from activities.repositories.timed_redis import connections_to

    how = connections_to(settings.REDIS_URL, tls=settings.REDIS_TLS)
    return ConnectionPool.from_url(settings.REDIS_URL, socket_connect_timeout=0.5, **how)


def access(valid_after: Callable[[int, Call], int], windows: Windows | None = None) -> Access:
    """Who may act for which chat, by the settings; `valid_after` tells since when a chat's tokens are good, and
    `windows` count requests."""
    return Access(
        keys=[settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS],
        valid_after=valid_after,
        services=settings.ACTIVITIES_SERVICE_TOKENS,
        lifetime=token_lifetime(),
        fair_use=FairUse(
            windows or MemoryWindows(),
            per_chat=settings.ACTIVITIES_REQUESTS_PER_MINUTE,
            per_service=settings.ACTIVITIES_SERVICE_REQUESTS_PER_MINUTE,
        ),
    )


def request_windows() -> Windows:
    """Where requests are counted: in Redis, where this process knows one that others share."""
    if not settings.REDIS_URL or settings.ACTIVITIES_BACKEND == "memory":
        return MemoryWindows()
    windows = SharedWindows(outcome_connections, most=settings.ACTIVITIES_STORAGE_SLOTS)
    windows.connect()
    return windows


def token_lifetime() -> timedelta:
    return timedelta(days=settings.ACTIVITIES_TOKEN_DAYS)
