"""Starts and stops what the product runs on: PostgreSQL, pgbouncer, Redis and Kafka, on free loopback ports.

    python3 scripts/services.py start
    python3 scripts/services.py stop
    python3 scripts/services.py run COMMAND ...    with them and their `env`; what it started it stops

Everything they own is under .services/: data, logs, process ids, passwords, and `env` with KEY=value lines. Docker
Compose where an engine answers, otherwise the system's packages, and Apache Kafka's published jars, which are fetched
once into .kafka/ and stay there. What was there before is never touched. Another set beside these is made without an
engine, under the folder that SERVICES_FOLDER names. Standard library only.
"""

from __future__ import annotations

import json
import os
import pwd
import re
import secrets
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fcntl import LOCK_EX, flock
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).resolve().parent.parent
FOLDER = Path(os.environ.get("SERVICES_FOLDER", ROOT / ".services"))
STATE = FOLDER / "state.json"
ENVIRONMENT = FOLDER / "env"
PACKAGES = {
    "postgresql": "postgres",
    "pgbouncer": "pgbouncer",
    "redis-server": "redis-server",
    "default-jre-headless": "java",
    "maven": "mvn",
}
"""Each Debian package and the program that it brings."""
PORTS = ("postgres", "pgbouncer", "redis", "kafka", "kafka_controller")
KAFKA = ROOT / ".kafka"
JARS = KAFKA / "jars"
KAFKA_SOURCE = ROOT / "deploy" / "kafka"
"""Says which jars Apache Kafka is made of, and their checksums."""
USER = "activities"
"""The role and the database of the product."""
STARTED: list[subprocess.Popen[bytes]] = []
"""By this process; Python complains of those that it loses sight of."""
READY_SECONDS = 45.0
STOP_SECONDS = 20.0


class Failure(Exception):
    """Ends the program with its one line."""


def main(arguments: list[str]) -> int:
    try:
        match arguments:
            case ["start"]:
                with exclusive(FOLDER):
                    start()
            case ["stop"]:
                with exclusive(FOLDER):
                    stop()
            case ["run", _, *_]:
                return run(arguments[1:])
            case _:
                print(__doc__)
                return 2
    except Failure as failure:
        print(f"services: {failure}", file=sys.stderr)
        return 2
    return 0


def run(command: list[str]) -> int:
    """The command's exit code."""
    with exclusive(FOLDER):
        were_there = STATE.exists()
        start()
    given = dict(line.split("=", 1) for line in ENVIRONMENT.read_text().splitlines())
    try:
        # Ctrl-C goes to the command as well, which ends in its own way.
        process = subprocess.Popen(command, env={**os.environ, **given})
        while True:
            with suppress(KeyboardInterrupt):
                return process.wait()
    finally:
        if not were_there:
            with exclusive(FOLDER):
                stop()


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """One at a time changes what is in the folder: a second one waits for the first."""
    folder.mkdir(exist_ok=True)
    lock = os.open(folder / "lock", os.O_CREAT | os.O_RDWR, 0o600)
    try:
        flock(lock, LOCK_EX)
        yield
    finally:
        os.close(lock)


def start() -> None:
    """Starts what does not run yet, and waits until all of it answers."""
    state = read_state()
    if engine_answers():
        compose_start(state)
    else:
        install_packages()
        fetch_kafka()
        replace_lost_ports(state)
        for service in native_services(state):
            service.start()
    write_environment(state)
    print(f"services: ready, see {os.path.relpath(ENVIRONMENT)}")


def stop() -> None:
    """Stops what was started here and removes its data."""
    if STATE.exists():
        state = read_state()
        if state.get("engine"):
            compose("down", "--volumes", state=state)
        for service in reversed(native_services(state)):
            service.stop()
    shutil.rmtree(FOLDER)
    print("services: stopped, nothing left")


# ------------------------------------------------------------------------------------------ state


State = dict[str, str]


def read_state() -> State:
    """Ports and passwords, chosen once and kept until the services are stopped."""
    if STATE.exists():
        state: State = json.loads(STATE.read_text())
    else:
        state = {f"{name}_password": secrets.token_urlsafe(24) for name in ("superuser", "postgres", "redis")}
    # A set that an earlier version started lacks what came later.
    choose_ports(state, [name for name in PORTS if f"{name}_port" not in state])
    return state


def choose_ports(state: State, names: Sequence[str]) -> None:
    state |= {f"{name}_port": str(port) for name, port in zip(names, free_ports(len(names)), strict=True)}
    write_secret(STATE, json.dumps(state, indent=1))


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on; held together until all are known, so that no two are the same."""
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports: list[int] = [each.getsockname()[1] for each in held]
    for each in held:
        each.close()
    return ports


def write_secret(path: Path, text: str) -> None:
    """Writes a file that only its owner can read, whole or not at all."""
    draft = path.with_name(path.name + ".new")
    draft.unlink(missing_ok=True)
    draft.touch(mode=0o600)
    draft.write_text(text)
    draft.replace(path)


def write_environment(state: State) -> None:
    owner, admin = ("activities_owner", "admin") if state.get("engine") else (USER, "")
    login = f"{owner}:{state['postgres_password']}"
    write_secret(
        ENVIRONMENT,
        f"DATABASE_URL=postgres://{login}@127.0.0.1:{state['pgbouncer_port']}/{USER}\n"
        f"DATABASE_DIRECT_URL=postgres://{login}@127.0.0.1:{state['postgres_port']}/{USER}\n"
        f"REDIS_URL=redis://{admin}:{state['redis_password']}@127.0.0.1:{state['redis_port']}/0\n"
        f"KAFKA_BOOTSTRAP_SERVERS=127.0.0.1:{state['kafka_port']}\n",
    )


# ----------------------------------------------------------------------------------- with an engine


def engine_answers() -> bool:
    """Whether containers can be run."""
    if "SERVICES_FOLDER" in os.environ or not shutil.which("docker"):
        return False
    with suppress(subprocess.TimeoutExpired):
        return not subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode and (
            not subprocess.run(["docker", "info"], capture_output=True, check=False, timeout=10).returncode
        )
    return False


def compose_start(state: State) -> None:
    state["engine"] = "docker"
    write_secret(STATE, json.dumps(state, indent=1))
    compose("up", "--detach", "--wait", "postgres", "pgbouncer", "redis", "kafka", state=state)


def compose(*arguments: str, state: State) -> None:
    """Docker Compose on the project's own file, published on our ports, as a project of its own."""
    compose_file = (ROOT / "docker-compose.yml").read_text()
    environment = {
        **os.environ,
        **dict.fromkeys(re.findall(r"\$\{(\w+):\?", compose_file), state["postgres_password"]),
        "POSTGRES_PASSWORD": state["superuser_password"],
        "REDIS_ADMIN_PASSWORD": state["redis_password"],
        "POSTGRES_PORT": state["postgres_port"],
        "PGBOUNCER_PORT": state["pgbouncer_port"],
        "REDIS_PORT": state["redis_port"],
        "KAFKA_PORT": state["kafka_port"],
    }
    files = ["-f", "docker-compose.yml", "-f", "deploy/compose.services.yml"]
    command = ["docker", "compose", "-p", "activities-services", *files, *arguments]
    if subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode:
        raise Failure("docker compose failed: see above")


# ------------------------------------------------------------------------------- without an engine


def install_packages() -> None:
    """Debian's packages, where they are missing and may be installed."""
    missing = [package for package, program in PACKAGES.items() if find_program(program) is None]
    if not missing:
        return
    sudo = [] if os.geteuid() == 0 else ["sudo", "-n"]
    if sudo and (not shutil.which("sudo") or subprocess.run(["sudo", "-n", "true"], check=False).returncode):
        raise Failure(f"system packages are missing: sudo apt-get install -y {' '.join(missing)}")
    print(f"services: installing {' '.join(missing)}", flush=True)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    subprocess.run([*sudo, "apt-get", "-qq", "update"], check=False, env=environment)
    command = [*sudo, "apt-get", "-qq", "install", "-y", "--no-install-recommends", *missing]
    if subprocess.run(command, check=False, env=environment, stdout=subprocess.DEVNULL).returncode:
        raise Failure(f"installing failed: see above, or try apt-get install -y {' '.join(missing)}")


def fetch_kafka() -> None:
    """Apache Kafka's jars, where they are not there, or not as they should be."""
    with exclusive(KAFKA):
        if jars_are_right():
            return
        print("services: fetching Apache Kafka (45 MB)", flush=True)
        shutil.rmtree(JARS, ignore_errors=True)
        # A repository of its own: nothing stays in the user's, and nothing comes from it unchecked.
        with TemporaryDirectory(dir=KAFKA) as repository:
            options = ["--batch-mode", "--quiet", "--strict-checksums", f"-Dmaven.repo.local={repository}"]
            goal = ["dependency:copy-dependencies", f"-DoutputDirectory={JARS}"]
            command = [program("mvn"), *options, "--file", str(KAFKA_SOURCE / "pom.xml"), *goal]
            fetched = subprocess.run(command, check=False, capture_output=True, text=True)
            if fetched.returncode:
                print(fetched.stdout)
                raise Failure("fetching Apache Kafka failed: see above")
        if not jars_are_right():
            raise Failure(f"what was fetched as Apache Kafka is not what {KAFKA_SOURCE / 'jars.sha256'} says")


def jars_are_right() -> bool:
    """Whether all that are listed are there as listed, and no other, which Java would load as well."""
    sums = KAFKA_SOURCE / "jars.sha256"
    listed = {line.split()[1] for line in sums.read_text().splitlines()}
    if not JARS.is_dir() or {each.name for each in JARS.iterdir()} != listed:
        return False
    command = ["sha256sum", "--check", "--strict", "--status", str(sums)]
    return not subprocess.run(command, cwd=JARS, check=False, stderr=subprocess.DEVNULL).returncode


def find_program(name: str) -> Path | None:
    """A program on the path, where Debian keeps those of administrators, or where it keeps PostgreSQL's own."""
    newest_first = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: int(folder.parent.name))[::-1]
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin", *map(str, newest_first)])
    found = shutil.which(name, path=path)
    return Path(found) if found else None


def program(name: str) -> str:
    found = find_program(name)
    if found is None:
        raise Failure(f"{name} is not to be found although its package is installed")
    return str(found)


def as_ordinary_user(command: list[str]) -> list[str]:
    """PostgreSQL and pgbouncer refuse to run as root: as PostgreSQL's own user, then.

    It may pass through folders that are closed to it (a clone under /root), since what it needs lies below them.
    """
    if os.geteuid() != 0:
        return command
    drop = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", "--reset-env"]
    if subprocess.run([*drop, "test", "-x", str(FOLDER), "-a", "-x", str(JARS)], check=False).returncode:
        # The last one lets access(), which Java asks, see the capability as well.
        drop += ["--inh-caps=-all,+dac_override", "--ambient-caps=-all,+dac_override", "--securebits=+no_setuid_fixup"]
    return [*drop, *command]


def own_folder(name: str) -> Path:
    """A folder of a service, belonging to who runs it."""
    folder = FOLDER / name
    folder.mkdir(mode=0o700, exist_ok=True)
    give_away(folder)
    return folder


def give_away(path: Path) -> None:
    if os.geteuid() == 0:
        owner = pwd.getpwnam("postgres")
        os.chown(path, owner.pw_uid, owner.pw_gid)


@dataclass(frozen=True)
class Service:
    """A server process that is started here and remembered by its process id."""

    name: str
    port: int
    command: Callable[[], list[str]]
    """What starts it in the foreground; makes its files first."""
    answers: Callable[[], bool]
    once_up: Callable[[], None] = lambda: None
    stop_signal: int = signal.SIGTERM
    other_ports: tuple[int, ...] = ()

    @property
    def _pid_file(self) -> Path:
        return FOLDER / f"{self.name}.pid"

    def start(self) -> None:
        """Starts it where it does not run, and returns when it answers.

        After a crash the remains of its predecessor may be in the way for a moment: it is tried again for a while.
        """
        end = time.monotonic() + READY_SECONDS
        tries = 0
        while not (self.running and self.answers()):
            if not self.running:
                tries += 1
                if tries > 1:
                    time.sleep(0.5)
                self._launch()
            if tries > 10 or time.monotonic() > end:
                log = (FOLDER / f"{self.name}.log").read_text(errors="replace").splitlines()
                tail = [line for line in log if line and not line.startswith("\tat ")][-5:]
                raise Failure(f"{self.name} does not start on port {self.port}:\n  " + "\n  ".join(tail))
            time.sleep(0.05)
        self.once_up()

    @property
    def running(self) -> bool:
        return self._pid() is not None

    def _launch(self) -> None:
        command = as_ordinary_user(self.command())
        with (FOLDER / f"{self.name}.log").open("ab") as log:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, cwd="/"
            )
        STARTED.append(process)
        # A process id alone may be somebody else's after a crash and a while: the moment it began tells.
        self._pid_file.write_text(f"{process.pid} {began(process.pid)}")

    def stop(self) -> None:
        pid = self._pid()
        if pid is None:
            return
        end = time.monotonic() + STOP_SECONDS
        os.kill(pid, self.stop_signal)
        while self._pid() is not None:
            if time.monotonic() > end:
                os.kill(pid, signal.SIGKILL)
            time.sleep(0.02)

    def _pid(self) -> int | None:
        """The id of its process while that runs."""
        with suppress(FileNotFoundError, ValueError):
            pid, moment = self._pid_file.read_text().split()
            if began(int(pid)) == moment:
                return int(pid)
        return None


def began(pid: int) -> str | None:
    """When a process began, in clock ticks since the machine did; None when there is none but a dead one's shell."""
    with suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] == "Z" else fields[19]


def native_services(state: State) -> list[Service]:
    """The servers in the order in which they start."""
    return [postgres(state), pgbouncer(state), redis(state), kafka(state)]


def replace_lost_ports(state: State) -> None:
    """Chooses all ports anew when somebody took one while its service was down; the data stay."""
    services = native_services(state)
    if all(service.running or all(map(is_free, (service.port, *service.other_ports))) for service in services):
        return
    for service in reversed(services):
        service.stop()
    choose_ports(state, PORTS)


def is_free(port: int) -> bool:
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


def asked(port: int, request: bytes, size: int) -> bytes:
    """The first `size` bytes of what a server answers; fewer when it does not."""
    answer = b""
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=3) as connection:
        connection.sendall(request)
        while len(answer) < size and (chunk := connection.recv(size - len(answer))):
            answer += chunk
    return answer


def psql(user: str, password: str, port: str, database: str, *sql: str) -> subprocess.CompletedProcess[str]:
    """Runs statements, each for itself."""
    commands = [word for each in sql for word in ("-c", each)]
    address = ["-h", "127.0.0.1", "-p", port, "-U", user, "-d", database]
    return subprocess.run(
        [program("psql"), "-X", "-q", "-t", "-A", "-w", "-v", "ON_ERROR_STOP=1", *address, *commands],
        env={**os.environ, "PGPASSWORD": password, "PGCONNECT_TIMEOUT": "3"},
        capture_output=True,
        text=True,
        check=False,
    )


def postgres(state: State) -> Service:
    folder = FOLDER / "postgres"
    port = state["postgres_port"]

    def command() -> list[str]:
        own_folder("postgres")
        data = folder / "data"
        if not (data / "PG_VERSION").exists() or not (folder / "made").exists():
            shutil.rmtree(data, ignore_errors=True)  # half made by a start that was interrupted
            secret = folder / "superuser"
            write_secret(secret, state["superuser_password"])
            give_away(secret)
            options = ["-D", str(data), "-U", "postgres", "-E", "UTF8", "--locale=C.UTF-8", f"--pwfile={secret}"]
            made = subprocess.run(
                as_ordinary_user([program("initdb"), *options, "--auth=scram-sha-256"]),
                capture_output=True,
                text=True,
                check=False,
                cwd="/",
            )
            if made.returncode:
                raise Failure(f"initdb failed: {made.stderr.strip()}")
            secret.unlink()
            (folder / "made").touch()
        settings = {
            "port": port,
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "max_connections": "200",
            "timezone": "UTC",
        }
        return [program("postgres"), "-D", str(data), *(f"--{key}={value}" for key, value in settings.items())]

    def answers() -> bool:
        return not psql("postgres", state["superuser_password"], port, "postgres", "SELECT 1").returncode

    def once_up() -> None:
        def run(sql: str) -> subprocess.CompletedProcess[str]:
            return psql("postgres", state["superuser_password"], port, "postgres", sql)

        if not run(f"SELECT 1 FROM pg_roles WHERE rolname = '{USER}'").stdout.strip():
            # May create databases, so that tests can have their own.
            run(f"CREATE ROLE {USER} LOGIN CREATEDB PASSWORD '{state['postgres_password']}'")
        if not run(f"SELECT 1 FROM pg_database WHERE datname = '{USER}'").stdout.strip():
            made = run(f"CREATE DATABASE {USER} OWNER {USER}")
            if made.returncode:
                raise Failure(f"the database cannot be made: {made.stderr.strip()}")

    # SIGINT is PostgreSQL's fast shutdown: it does not wait for clients.
    return Service("postgres", int(port), command, answers, once_up, signal.SIGINT)


def pgbouncer(state: State) -> Service:
    port = state["pgbouncer_port"]

    def command() -> list[str]:
        folder = own_folder("pgbouncer")
        users, settings = folder / "users.txt", folder / "pgbouncer.ini"
        write_secret(users, f'"{USER}" "{state["postgres_password"]}"\n')
        write_secret(
            settings,
            f"""[databases]
* = host=127.0.0.1 port={state["postgres_port"]}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = {users}
admin_users = {USER}
pool_mode = transaction
max_client_conn = 1000
default_pool_size = 30
server_connect_timeout = 3
server_login_retry = 1
""",
        )
        give_away(users)
        give_away(settings)
        return [program("pgbouncer"), str(settings)]

    def answers() -> bool:
        return not psql(USER, state["postgres_password"], port, USER, "SELECT 1").returncode

    return Service("pgbouncer", int(port), command, answers, stop_signal=signal.SIGTERM)


def redis(state: State) -> Service:
    port = int(state["redis_port"])

    def command() -> list[str]:
        folder = own_folder("redis")
        settings = folder / "redis.conf"
        # A cache and a messenger: nothing in it has to outlive it.
        write_secret(
            settings,
            f'bind 127.0.0.1\nport {port}\ndir "{folder}"\nrequirepass {state["redis_password"]}\n'
            'save ""\nappendonly no\nmaxmemory 256mb\nmaxmemory-policy noeviction\n',
        )
        give_away(settings)
        return [program("redis-server"), str(settings)]

    def answers() -> bool:
        well = b"+OK\r\n+PONG\r\n"
        return asked(port, f"AUTH {state['redis_password']}\r\nPING\r\n".encode(), len(well)) == well

    return Service("redis", port, command, answers)


def kafka(state: State, further: Mapping[str, str] | None = None) -> Service:
    """`further` settings are added, or stand in for its own."""
    port, controller_port = int(state["kafka_port"]), int(state["kafka_controller_port"])

    def command() -> list[str]:
        folder = own_folder("kafka")
        settings = folder / "server.properties"
        properties = {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.voters": f"1@127.0.0.1:{controller_port}",
            "controller.listener.names": "CONTROLLER",
            "listeners": f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}",
            "log.dirs": str(folder / "data"),
            # One node, so one copy of everything; topics are made by the product, with the partitions that it wants.
            "auto.create.topics.enable": "false",
            "offsets.topic.replication.factor": "1",
            "offsets.topic.num.partitions": "1",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "group.initial.rebalance.delay.ms": "0",
            # After a kill -9 the controller takes the broker back only when its last life's session has run out.
            "broker.session.timeout.ms": "2000",
            "broker.heartbeat.interval.ms": "500",
            **(further or {}),
        }
        write_secret(settings, "".join(f"{name}={text}\n" for name, text in properties.items()))
        give_away(settings)
        options = ["-Xmx512m", "-XX:+UseSerialGC", "-XX:+ExitOnOutOfMemoryError", "-Dlog4j2.level=WARN"]
        # Nothing of it under /tmp.
        options += ["-XX:-UsePerfData", f"-Djava.io.tmpdir={folder}", "-cp", f"{JARS}/*"]
        java = [program("java"), *options]
        if not (folder / "made").exists():
            shutil.rmtree(folder / "data", ignore_errors=True)  # half made by a start that was interrupted
            # A cluster's id may begin with a dash, which only `=` keeps from being an option.
            identity = f"--cluster-id={secrets.token_urlsafe(16)}"
            made = subprocess.run(
                as_ordinary_user([*java, "kafka.tools.StorageTool", "format", identity, "--config", str(settings)]),
                capture_output=True,
                text=True,
                check=False,
                cwd="/",
            )
            if made.returncode:
                tail = (made.stdout + made.stderr).splitlines()[-5:]
                raise Failure("Kafka's storage cannot be made:\n  " + "\n  ".join(tail))
            (folder / "made").touch()
        return [*java, "kafka.Kafka", str(settings)]

    return Service("kafka", port, command, lambda: kafka_answers(port), other_ports=(controller_port,))


def kafka_answers(port: int) -> bool:
    """Whether a broker that speaks plain text can be used."""
    # The request Metadata, version 1, for no topics; what comes after its answer's length and number is how many
    # brokers can be used.
    request = struct.pack(">hhihi", 3, 1, 7, -1, 0)
    return asked(port, struct.pack(">i", len(request)) + request, 12)[4:] == struct.pack(">ii", 7, 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
