"""How connections to Kafka are protected, and who a client says it is."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from typing import Any

PROTOCOLS = ("plaintext", "ssl", "sasl_plaintext", "sasl_ssl")
MECHANISMS = ("SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN")


@dataclass(frozen=True, slots=True)
class Security:
    """The same for each client of a process: producer, consumer, admin."""

    protocol: str = "plaintext"
    tls: ssl.SSLContext | None = None
    mechanism: str = ""
    username: str = ""
    password: str = field(default="", repr=False)

    def options(self) -> dict[str, Any]:
        """What kafka-python's clients are told."""
        return {
            "security_protocol": self.protocol.upper(),
            "ssl_context": self.tls,
            "sasl_mechanism": self.mechanism or None,
            "sasl_plain_username": self.username or None,
            "sasl_plain_password": self.password or None,
        }


OPEN = Security()
"""Plain text, and nobody is asked who it is."""
