"""Each process of docker-compose.yml with its own credentials: what it does works, and nothing else."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import psycopg
import pytest
import redis
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import ClusterAuthorizationFailedError, GroupAuthorizationFailedError, TopicAuthorizationFailedError
from psycopg import errors
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError
from redis.retry import Retry

from activities.domain import ActivityChanges, ActivityNotFound, Create, Order, Page
from activities.ports import Activities, Call
from activities.repositories.cached import PREFIX
from grpc_server.client import Remote
from kafka_worker.security import Security
from tests.examples import activity
from tests.faults.product import PATIENCE, TOKEN, Process, manage
from tests.faults.services import eventually
from tests.secured.servers import ADMIN_PASSWORD, COMPOSE, SecuredServices

PORT = r"gRPC +\S+:(\d+)"
ADMIN = "head"


class Topology:
    """The processes of docker-compose.yml, each as it is there but for addresses."""

    def __init__(self, services: SecuredServices, folder: Path) -> None:
        self._services, self._folder = services, folder
        self.processes: dict[str, Process] = {}
        self.remotes: dict[str, Remote] = {}
        self._start("grpc", up=PORT)
        self._start("consumer", up="consuming commands")
        self._start("web", up="Try it")
        self._start("interface", up="Try it", ACTIVITIES_GRPC_TARGET=f"127.0.0.1:{self._port('grpc')}")
        for name in ("grpc", "interface"):
            target = f"127.0.0.1:{self._port(name)}"
            self.remotes[name] = Remote(target=target, token=TOKEN, limit=PATIENCE)
        eventually(self._is_ready)

    @property
    def url(self) -> str:
        found = self.processes["web"].said(r"^HTTP +(http://[^/]+)/|\nHTTP +(http://[^/]+)/")
        assert found is not None
        return found[1] or found[2]

    def stop(self) -> dict[str, int]:
        """Their exit codes."""
        for remote in self.remotes.values():
            remote.close()
        return {name: process.stop() for name, process in self.processes.items()}

    def _start(self, name: str, *, up: str, **others: str) -> None:
        command = [re.sub(r"^(0\.0\.0\.0|127\.0\.0\.1):\d+$", "127.0.0.1:0", word) for word in COMPOSE[name]["command"]]
        environment = {**self._services.environment_of(name), **others}
        if "METRICS_ADDRESS" in environment:
            environment["METRICS_ADDRESS"] = "127.0.0.1:0"
        self.processes[name] = Process(environment, self._folder / f"{name}.log", *command, up=up)

    def _port(self, name: str) -> str:
        found = self.processes[name].said(PORT)
        assert found is not None
        return found[1]

    def _is_ready(self) -> bool:
        try:
            self.remotes["interface"].ready(Call())
            self.remotes["interface"].activities.delete(1, name="none", call=Call())
        except ActivityNotFound:  # by way of Kafka, the consumer and Redis
            return True
        except Exception:
            return False
        return False


@pytest.fixture(scope="module")
def topology(all_services: SecuredServices, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Topology]:
    topology = Topology(all_services, tmp_path_factory.mktemp("topology"))
    yield topology
    assert set(topology.stop().values()) == {0}


@pytest.fixture
def admin(services: SecuredServices) -> Iterator[redis.Redis]:
    """Redis as somebody sees it who may do everything."""
    with redis_of(services, "admin", ADMIN_PASSWORD) as client:
        yield client


def redis_of(services: SecuredServices, user: str, password: str) -> redis.Redis:
    ours = services.certificates
    return redis.Redis(
        port=services.ports["redis"],
        username=user,
        password=password,
        ssl=True,
        ssl_ca_certs=str(ours.ca),
        ssl_certfile=str(ours.client.certificate),
        ssl_keyfile=str(ours.client.key),
        host="127.0.0.1",
        retry=Retry(NoBackoff(), 0),
    )


# ------------------------------------------------------------------------------------ what works


@pytest.mark.parametrize("entrance", ["grpc", "interface"])
def test_every_use_case_works_and_nobody_was_refused_anything(
    entrance: str, topology: Topology, services: SecuredServices, admin: redis.Redis
) -> None:
    chat_id, other = (11, 12) if entrance == "grpc" else (21, 22)
    remote = topology.remotes[entrance]
    admin.acl_log_reset()
    use_everything(remote.activities, chat_id, admin)
    remote.chats.move(chat_id, to_chat_id=other, call=Call())
    remote.chats.revoke_tokens(other, call=Call())
    admin.set(f"activities:result:{other}:{uuid4()}", b"told before", ex=60)
    remote.chats.forget(other, call=Call())
    assert admin.keys(f"activities:*:{other}:*") == []
    assert admin.acl_log() == []
    assert [line for process in topology.processes.values() for line in process.log_since(0)] == []


def use_everything(activities: Activities, chat_id: int, admin: redis.Redis) -> None:
    for name in ("pill", "drops"):
        activities.create(chat_id, activity=activity(name), call=Call(request_id=uuid4()))
    activities.apply([Create(chat_id=chat_id, activity=activity("plain"))], call=Call())
    for _ in range(2):
        assert activities.get(chat_id, name="pill", call=Call()) == activity("pill")
    assert admin.get(f"{PREFIX}{chat_id}:pill")
    changed = activities.update(chat_id, name="pill", changes=ActivityChanges(times_per_day=9), call=Call())
    assert not admin.get(f"{PREFIX}{chat_id}:pill")
    assert activities.get(chat_id, name="pill", call=Call()) == changed
    activities.delete(chat_id, name="drops", call=Call())
    assert activities.list(chat_id, page=Page(), call=Call()).total == 2
    assert len(list(activities.stream(chat_id, order=Order("name"), call=Call()))) == 2
    activities.today(chat_id, page=Page(), call=Call())


def test_the_admin_is_used_with_the_rights_of_its_process(topology: Topology, services: SecuredServices) -> None:
    password = services.secrets["DJANGO_SECRET_KEY"]
    environment = {**services.environment_of("web"), "DJANGO_SUPERUSER_PASSWORD": password}
    manage(environment, "createsuperuser", "--no-input", "--username", ADMIN, "--email", "")
    with httpx.Client(base_url=topology.url, follow_redirects=True) as browser:
        login = browser.get("/admin/")
        token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', login.text)
        assert token is not None
        form = {"csrfmiddlewaretoken": token[1], "username": ADMIN, "password": password, "next": "/admin/"}
        page = browser.post(login.url, data=form, headers={"Referer": str(login.url)})
        assert (page.status_code, page.url.path) == (200, "/admin/")
        assert "/admin/logout/" in page.text
        assert browser.get("/admin/activities/activity/").status_code == 200


# ---------------------------------------------------------------------------------- PostgreSQL


DATA = ("grpc", "web", "consumer")


@pytest.mark.parametrize("role", DATA)
@pytest.mark.parametrize(
    "statement",
    [
        "DROP TABLE activities_activity",
        "ALTER TABLE activities_activity DISABLE TRIGGER ALL",
        "TRUNCATE activities_activity",
        "CREATE TABLE mine (id int)",
        "CREATE TEMPORARY TABLE mine (id int)",
        "CREATE SCHEMA mine",
        "DELETE FROM django_migrations",
        "SELECT rolpassword FROM pg_authid",
        "SET ROLE activities_owner",
    ],
)
def test_who_reads_and_changes_activities_may_not_rebuild_the_database(
    role: str, statement: str, services: SecuredServices
) -> None:
    with session(services, role) as connection, pytest.raises(errors.InsufficientPrivilege):
        connection.execute(statement)


@pytest.mark.parametrize("role", ["grpc", "consumer"])
@pytest.mark.parametrize("table", ["auth_user", "django_session", "django_admin_log"])
def test_the_admin_s_accounts_are_for_its_process_alone(role: str, table: str, services: SecuredServices) -> None:
    with session(services, role) as connection, pytest.raises(errors.InsufficientPrivilege):
        connection.execute(f"SELECT * FROM {table}")
    with session(services, "web") as connection:
        connection.execute(f"SELECT * FROM {table}")


@pytest.mark.parametrize("statement", ["CREATE ROLE mine", "CREATE DATABASE mine", "SELECT * FROM pg_authid"])
def test_who_migrates_rules_its_database_and_no_more(statement: str, services: SecuredServices) -> None:
    with session(services, "owner") as connection, pytest.raises(errors.InsufficientPrivilege):
        connection.execute(statement)


def session(services: SecuredServices, role: str) -> psycopg.Connection:
    password = services.secrets[f"POSTGRES_{role.upper()}_PASSWORD"]
    return psycopg.connect(services.database_url(f"activities_{role}", password), autocommit=True)


# --------------------------------------------------------------------------------------- Redis


ENTRY, OUTCOME = f"{PREFIX}1:pill", "activities:result:1:00000000-0000-0000-0000-000000000000"


@pytest.mark.parametrize(
    ("user", "command"),
    [
        *((user, command) for user in ("grpc", "web", "consumer", "interface") for command in (
            ["FLUSHALL"], ["CONFIG", "GET", "*"], ["KEYS", "*"], ["ACL", "LIST"], ["GET", "another's"], ["MONITOR"],
        )),
        ("interface", ["GET", ENTRY]),
        ("interface", ["MGET", OUTCOME, ENTRY]),
        ("interface", ["DEL", ENTRY]),
        ("interface", ["SCAN", "0"]),
        ("interface", ["SET", OUTCOME, "forged"]),
        ("interface", ["PUBLISH", OUTCOME, "forged"]),
        ("interface", ["SUBSCRIBE", "another's"]),
        ("interface", ["PSUBSCRIBE", "*"]),
        ("interface", ["EVAL", "return redis.call('GET', KEYS[1])", "1", ENTRY]),
        ("interface", ["EVAL", f"return redis.call('GET', '{ENTRY}')", "0"]),
        ("consumer", ["GET", OUTCOME]),
        ("consumer", ["SUBSCRIBE", OUTCOME]),
        ("grpc", ["GET", OUTCOME]),
        ("grpc", ["PUBLISH", OUTCOME, "forged"]),
        ("web", ["GET", OUTCOME]),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value)[:30],
)  # fmt: skip
def test_a_user_of_redis_may_do_what_it_is_for(user: str, command: list[str], services: SecuredServices) -> None:
    with redis_of(services, user, services.secrets[f"REDIS_{user.upper()}_PASSWORD"]) as client:
        assert client.ping() is True
        with pytest.raises(redis.ResponseError, match=r"permission|can't run this command"):
            client.execute_command(*command)


@pytest.mark.parametrize("user", ["default", "interface"])
def test_nobody_is_let_in_without_a_password(user: str, services: SecuredServices) -> None:
    with redis_of(services, user, "guessed") as client, pytest.raises(AuthenticationError):
        client.ping()


# --------------------------------------------------------------------------------------- Kafka


def kafka_of(services: SecuredServices, user: str) -> dict[str, Any]:
    from activities.tls import client_context

    ours = services.certificates
    tls = client_context("TEST", certificate=str(ours.client.certificate), key=str(ours.client.key), ca=str(ours.ca))
    password = services.secrets[f"KAFKA_{user.upper()}_PASSWORD"]
    security = Security(protocol="sasl_ssl", tls=tls, mechanism="PLAIN", username=user, password=password)
    return {"bootstrap_servers": f"127.0.0.1:{services.ports['kafka']}", **security.options()}


@pytest.mark.parametrize(
    ("user", "topic"),
    [("interface", "activities.dead-letter"), ("consumer", "activities.create"), ("consumer", "activities.delete")],
)
def test_who_writes_commands_writes_nothing_else_and_who_reads_them_writes_none(
    user: str, topic: str, services: SecuredServices
) -> None:
    with (
        KafkaProducer(**kafka_of(services, user), max_block_ms=10_000) as producer,
        pytest.raises(TopicAuthorizationFailedError),
    ):
        producer.send(topic, b"forged").get(timeout=10)


def test_an_interface_reads_no_commands(services: SecuredServices) -> None:
    with KafkaConsumer(**kafka_of(services, "interface"), group_id=None) as consumer:
        consumer.assign([TopicPartition("activities.create", 0)])
        with pytest.raises(TopicAuthorizationFailedError):
            consumer.poll(timeout_ms=10_000)


def test_an_interface_is_no_member_of_the_consumers_group(services: SecuredServices) -> None:
    options = kafka_of(services, "interface")
    with KafkaConsumer(**options, group_id="activities-data-service", enable_auto_commit=False) as consumer:
        consumer.subscribe(["activities.create"])
        with pytest.raises((GroupAuthorizationFailedError, TopicAuthorizationFailedError)):
            consumer.poll(timeout_ms=10_000)


@pytest.mark.parametrize("user", ["interface", "consumer"])
def test_topics_and_rights_are_for_their_own_process(user: str, services: SecuredServices) -> None:
    attempts: list[Callable[[KafkaAdminClient], object]] = [
        lambda admin: admin.create_topics({"activities.mine": {"num_partitions": 1, "replication_factor": 1}}),
        lambda admin: admin.delete_topics(["activities.create"]),
    ]
    with closing(KafkaAdminClient(**kafka_of(services, user))) as admin:
        for attempt in attempts:
            with pytest.raises((TopicAuthorizationFailedError, ClusterAuthorizationFailedError)):
                attempt(admin)
