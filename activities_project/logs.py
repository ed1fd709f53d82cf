"""What the log leaves out."""

from __future__ import annotations

import logging


class CallersFault(logging.Filter):
    """Keeps the line and drops the traceback of what a caller sent wrong: it would show our code, which is right."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.exc_info = None
        record.levelno, record.levelname = logging.WARNING, logging.getLevelName(logging.WARNING)
        return True


class Unreadable(CallersFault):
    """The same, where gRPC tells of bytes that are no message. Of ours that it cannot write it tells everything."""

    def filter(self, record: logging.LogRecord) -> bool:
        return super().filter(record) if record.msg == "Exception deserializing message!" else True
