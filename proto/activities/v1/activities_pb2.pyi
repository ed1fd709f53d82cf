from google.api import annotations_pb2 as _annotations_pb2
from google.protobuf import empty_pb2 as _empty_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Activity(_message.Message):
    __slots__ = ("name", "begin_date", "end_date", "times_per_day", "quantity_per_time")
    NAME_FIELD_NUMBER: _ClassVar[int]
    BEGIN_DATE_FIELD_NUMBER: _ClassVar[int]
    END_DATE_FIELD_NUMBER: _ClassVar[int]
    TIMES_PER_DAY_FIELD_NUMBER: _ClassVar[int]
    QUANTITY_PER_TIME_FIELD_NUMBER: _ClassVar[int]
    name: str
    begin_date: str
    end_date: str
    times_per_day: int
    quantity_per_time: float
    def __init__(self, name: _Optional[str] = ..., begin_date: _Optional[str] = ..., end_date: _Optional[str] = ..., times_per_day: _Optional[int] = ..., quantity_per_time: _Optional[float] = ...) -> None: ...

class ActivityCreateRequest(_message.Message):
    __slots__ = ("chat_id", "name", "begin_date", "end_date", "times_per_day", "quantity_per_time")
    CHAT_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    BEGIN_DATE_FIELD_NUMBER: _ClassVar[int]
    END_DATE_FIELD_NUMBER: _ClassVar[int]
    TIMES_PER_DAY_FIELD_NUMBER: _ClassVar[int]
    QUANTITY_PER_TIME_FIELD_NUMBER: _ClassVar[int]
    chat_id: int
    name: str
    begin_date: str
    end_date: str
    times_per_day: int
    quantity_per_time: float
    def __init__(self, chat_id: _Optional[int] = ..., name: _Optional[str] = ..., begin_date: _Optional[str] = ..., end_date: _Optional[str] = ..., times_per_day: _Optional[int] = ..., quantity_per_time: _Optional[float] = ...) -> None: ...

class ActivityGetRequest(_message.Message):
    __slots__ = ("chat_id", "name")
    CHAT_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    chat_id: int
    name: str
    def __init__(self, chat_id: _Optional[int] = ..., name: _Optional[str] = ...) -> None: ...

class ActivityListRequest(_message.Message):
    __slots__ = ("chat_id", "limit", "offset", "order")
    CHAT_ID_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    ORDER_FIELD_NUMBER: _ClassVar[int]
    chat_id: int
    limit: int
    offset: int
    order: str
    def __init__(self, chat_id: _Optional[int] = ..., limit: _Optional[int] = ..., offset: _Optional[int] = ..., order: _Optional[str] = ...) -> None: ...

class ActivityListResponse(_message.Message):
    __slots__ = ("activities", "total")
    ACTIVITIES_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    activities: _containers.RepeatedCompositeFieldContainer[Activity]
    total: int
    def __init__(self, activities: _Optional[_Iterable[_Union[Activity, _Mapping]]] = ..., total: _Optional[int] = ...) -> None: ...

class ActivityListStreamRequest(_message.Message):
    __slots__ = ("chat_id", "order")
    CHAT_ID_FIELD_NUMBER: _ClassVar[int]
    ORDER_FIELD_NUMBER: _ClassVar[int]
    chat_id: int
    order: str
    def __init__(self, chat_id: _Optional[int] = ..., order: _Optional[str] = ...) -> None: ...

class ActivityTodayRequest(_message.Message):
    __slots__ = ("chat_id", "limit", "offset", "order")
    CHAT_ID_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    ORDER_FIELD_NUMBER: _ClassVar[int]
    chat_id: int
    limit: int
    offset: int
    order: str
    def __init__(self, chat_id: _Optional[int] = ..., limit: _Optional[int] = ..., offset: _Optional[int] = ..., order: _Optional[str] = ...) -> None: ...

class ActivityTodayResponse(_message.Message):
    __slots__ = ("activities", "total")
    ACTIVITIES_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    activities: _containers.RepeatedCompositeFieldContainer[Activity]
    total: int
    def __init__(self, activities: _Optional[_Iterable[_Union[Activity, _Mapping]]] = ..., total: _Optional[int] = ...) -> None: ...

class ActivityUpdateRequest(_message.Message):
    __slots__ = ("chat_id", "name", "begin_date", "end_date", "times_per_day", "quantity_per_time")
    CHAT_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    BEGIN_DATE_FIELD_NUMBER: _ClassVar[int]
    END_DATE_FIELD_NUMBER: _ClassVar[int]
    TIMES_PER_DAY_FIELD_NUMBER: _ClassVar[int]
    QUANTITY_PER_TIME_FIELD_NUMBER: _ClassVar[int]
    chat_id: int
    name: str
    begin_date: str
    end_date: str
    times_per_day: int
    quantity_per_time: float
    def __init__(self, chat_id: _Optional[int] = ..., name: _Optional[str] = ..., begin_date: _Optional[str] = ..., end_date: _Optional[str] = ..., times_per_day: _Optional[int] = ..., quantity_per_time: _Optional[float] = ...) -> None: ...

class ActivityDeleteRequest(_message.Message):
    __slots__ = ("chat_id", "name")
    CHAT_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    chat_id: int
    name: str
    def __init__(self, chat_id: _Optional[int] = ..., name: _Optional[str] = ...) -> None: ...
