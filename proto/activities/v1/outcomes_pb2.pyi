from google.protobuf import empty_pb2 as _empty_pb2
from google.rpc import status_pb2 as _status_pb2
from proto.activities.v1 import activities_pb2 as _activities_pb2
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Outcome(_message.Message):
    __slots__ = ("activity", "deleted", "status", "fingerprint")
    ACTIVITY_FIELD_NUMBER: _ClassVar[int]
    DELETED_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    activity: _activities_pb2.Activity
    deleted: _empty_pb2.Empty
    status: _status_pb2.Status
    fingerprint: str
    def __init__(self, activity: _Optional[_Union[_activities_pb2.Activity, _Mapping]] = ..., deleted: _Optional[_Union[_empty_pb2.Empty, _Mapping]] = ..., status: _Optional[_Union[_status_pb2.Status, _Mapping]] = ..., fingerprint: _Optional[str] = ...) -> None: ...
