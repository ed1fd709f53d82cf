from google.api import annotations_pb2 as _annotations_pb2
from google.protobuf import empty_pb2 as _empty_pb2
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class Chat(_message.Message):
    __slots__ = ("chat_id", "timezone", "language", "tokens_valid_after")
    CHAT_ID_FIELD_NUMBER: _ClassVar[int]
    TIMEZONE_FIELD_NUMBER: _ClassVar[int]
    LANGUAGE_FIELD_NUMBER: _ClassVar[int]
    TOKENS_VALID_AFTER_FIELD_NUMBER: _ClassVar[int]
    chat_id: int
    timezone: str
    language: str
    tokens_valid_after: int
    def __init__(self, chat_id: _Optional[int] = ..., timezone: _Optional[str] = ..., language: _Optional[str] = ..., tokens_valid_after: _Optional[int] = ...) -> None: ...

class ChatGetRequest(_message.Message):
    __slots__ = ("chat_id",)
    CHAT_ID_FIELD_NUMBER: _ClassVar[int]
    chat_id: int
    def __init__(self, chat_id: _Optional[int] = ...) -> None: ...

class ChatUpdateRequest(_message.Message):
    __slots__ = ("chat_id", "timezone", "language")
    CHAT_ID_FIELD_NUMBER: _ClassVar[int]
    TIMEZONE_FIELD_NUMBER: _ClassVar[int]
    LANGUAGE_FIELD_NUMBER: _ClassVar[int]
    chat_id: int
    timezone: str
    language: str
    def __init__(self, chat_id: _Optional[int] = ..., timezone: _Optional[str] = ..., language: _Optional[str] = ...) -> None: ...

class ChatRevokeTokensRequest(_message.Message):
    __slots__ = ("chat_id",)
    CHAT_ID_FIELD_NUMBER: _ClassVar[int]
    chat_id: int
    def __init__(self, chat_id: _Optional[int] = ...) -> None: ...

class ChatForgetRequest(_message.Message):
    __slots__ = ("chat_id",)
    CHAT_ID_FIELD_NUMBER: _ClassVar[int]
    chat_id: int
    def __init__(self, chat_id: _Optional[int] = ...) -> None: ...

class ChatMoveRequest(_message.Message):
    __slots__ = ("chat_id", "to_chat_id")
    CHAT_ID_FIELD_NUMBER: _ClassVar[int]
    TO_CHAT_ID_FIELD_NUMBER: _ClassVar[int]
    chat_id: int
    to_chat_id: int
    def __init__(self, chat_id: _Optional[int] = ..., to_chat_id: _Optional[int] = ...) -> None: ...
