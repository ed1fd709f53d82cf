"""How every client of Kafka's gets to a broker, and what it says when it does not."""

from __future__ import annotations

from functools import partial
from typing import Any

from kafka.errors import KafkaConnectionError, KafkaTimeoutError, SaslAuthenticationFailedError
from kafka.net.compat import KafkaNetClient
from kafka.net.manager import KafkaConnectionManager
from kafka.net.selector import NetworkSelector

from kafka_worker.security import Security


def connection(servers: str, security: Security) -> dict[str, Any]:
    """What a producer, consumer or admin of kafka-python is told of the brokers."""
    return {"bootstrap_servers": servers, **security.options(), "kafka_client": Network}


class Network(KafkaNetClient):  # type: ignore[misc]
    """A client's way to the network, which tells why no broker could be reached."""

    def __init__(self, **options: Any) -> None:
        net = NetworkSelector(**options)
        super().__init__(net=net, manager=_Connections(net, **options))


class _Connections(KafkaConnectionManager):  # type: ignore[misc]
    """The driver's own says of its first attempts only that they were in vain, and goes on after a wrong password."""

    _failed: Exception | None = None

    def get_connection(self, node_id: Any, **options: Any) -> Any:
        if isinstance(self._failed, SaslAuthenticationFailedError) and not self.bootstrapped:
            raise self._failed
        connection = super().get_connection(node_id, **options)
        if not connection.init_future.is_done:
            connection.init_future.add_errback(partial(self._remember, connection))
        return connection

    async def _do_bootstrap(self, deadline: float | None) -> Any:
        self._failed = None
        try:
            return await super()._do_bootstrap(deadline)
        except KafkaTimeoutError as error:
            raise KafkaTimeoutError(f"{error.args[0]}: {self._failed or 'no answer'}") from self._failed

    def _remember(self, connection: Any, failed: Exception) -> None:
        """Keeps what tells most: of several attempts, one may be refused and the next one be out of time."""
        is_logging_in = connection.sasl_enabled and connection.broker_version_data is not None
        if is_logging_in and isinstance(failed, KafkaConnectionError):
            # The broker refuses and hangs up; the driver may see the second before it has read the first.
            failed = SaslAuthenticationFailedError("Authentication failed: the broker hung up during the log-in")
        if _is_telling(failed) or self._failed is None:
            self._failed = failed


def _is_telling(failed: Exception) -> bool:
    return isinstance(failed, SaslAuthenticationFailedError) or "Handshake failed" in str(failed)
