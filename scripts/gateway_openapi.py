"""OpenAPI of what the gateway makes of gRPC services: their `google.api.http` annotations, fields and comments."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import yaml
from google.api import annotations_pb2
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
    MethodDescriptorProto,
    ServiceDescriptorProto,
)

Json = dict[str, Any]

DESCRIPTION = (
    "The gRPC services as JSON over HTTP. Errors are `google.rpc.Status`, whose `google.rpc.ErrorInfo` names the "
    "reason. 64-bit integers are texts. A name in a path is percent-encoded, slashes too: `pill 1/2` is `pill%201%2F2`."
)
REQUEST_ID = {
    "name": "X-Request-Id",
    "in": "header",
    "description": "Makes a create, update or delete safe to repeat: for 24 hours the same request under the same id "
    "gets the first one's answer.",
    "schema": {"type": "string", "format": "uuid"},
}
STATUS: Json = {
    "type": "object",
    "description": "google.rpc.Status",
    "properties": {
        "code": {"type": "integer", "description": "A google.rpc.Code."},
        "message": {"type": "string"},
        "details": {
            "type": "array",
            "items": {
                "type": "object",
                "description": "google.rpc.ErrorInfo, BadRequest, RetryInfo or RequestInfo",
                "properties": {"@type": {"type": "string"}},
                "required": ["@type"],
                "additionalProperties": True,
            },
        },
    },
    "required": ["code", "message", "details"],
}
ERROR: Json = {
    "description": "What went wrong, with gRPC's usual HTTP status",
    "headers": {
        "Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer"}},
        "WWW-Authenticate": {"description": "`Bearer`, with 401.", "schema": {"type": "string"}},
    },
    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Status"}}},
}
SCALARS: dict[int, Json] = {
    FieldDescriptorProto.TYPE_STRING: {"type": "string"},
    FieldDescriptorProto.TYPE_INT64: {"type": "string", "format": "int64"},
    FieldDescriptorProto.TYPE_INT32: {"type": "integer", "format": "int32"},
    FieldDescriptorProto.TYPE_UINT32: {"type": "integer", "minimum": 0},
    FieldDescriptorProto.TYPE_DOUBLE: {"type": "number", "format": "double"},
}
"""Another one is a KeyError, until somebody has looked how it is printed."""


def described(descriptors: bytes) -> str:
    """The YAML for a serialized FileDescriptorSet with its source information."""
    api = _Api(FileDescriptorSet.FromString(descriptors))
    return yaml.safe_dump(api.document(), sort_keys=False, allow_unicode=True, width=120)


class _Api:
    def __init__(self, descriptors: FileDescriptorSet) -> None:
        self._files = descriptors.file
        self._comments: dict[str, str] = {}
        self._messages: dict[str, DescriptorProto] = {}
        self._schemas: dict[str, Json] = {"Status": STATUS}
        for file in self._files:
            self._read(file)

    def _read(self, file: FileDescriptorProto) -> None:
        """A file's messages by their full names, and the comments of its parts."""
        self._messages |= {f".{file.package}.{message.name}": message for message in file.message_type}
        comments = {tuple(each.path): each.leading_comments for each in file.source_code_info.location}
        # Paths are of fields' numbers and positions: 4 and 6 are a file's messages and services, 2 what is in these.
        owners: list[tuple[int, int, str, list[str]]] = [
            *((4, at, each.name, [field.name for field in each.field]) for at, each in enumerate(file.message_type)),
            *((6, at, each.name, [method.name for method in each.method]) for at, each in enumerate(file.service)),
        ]
        for number, at, owner, inner in owners:
            self._comments[owner] = comments.get((number, at), "")
            for position, name in enumerate(inner):
                self._comments[f"{owner}.{name}"] = comments.get((number, at, 2, position), "")

    def _comment(self, *names: str) -> str:
        return re.sub(r"(?m)^ ", "", self._comments[".".join(names)]).strip()

    def document(self) -> Json:
        paths: Json = {}
        services = [service for file in self._files for service in file.service]
        for service in services:
            for url, verb, operation in self._operations(service):
                paths.setdefault(url, {})[verb] = operation
        return {
            "openapi": "3.0.3",
            "info": {"title": "Activities: the gateway", "version": "1", "description": DESCRIPTION},
            "servers": [{"url": "http://127.0.0.1:8080"}],
            "security": [{"bearer": []}],
            "tags": [{"name": each.name, "description": self._comment(each.name)} for each in services],
            "paths": paths,
            "components": {
                "parameters": {"RequestId": REQUEST_ID},
                "responses": {"Error": ERROR},
                "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
                "schemas": dict(sorted(self._schemas.items())),
            },
        }

    def _operations(self, service: ServiceDescriptorProto) -> Iterator[tuple[str, str, Json]]:
        for method in service.method:
            rule = method.options.Extensions[annotations_pb2.http]
            verb = rule.WhichOneof("pattern")
            if verb:
                url = re.sub(r"\{(\w+)=\*\*\}", r"{\1}", getattr(rule, verb))
                yield url, verb, self._operation(service, method, url, verb, has_body=rule.body == "*")

    def _operation(
        self, service: ServiceDescriptorProto, method: MethodDescriptorProto, url: str, verb: str, *, has_body: bool
    ) -> Json:
        comment = self._comment(service.name, method.name)
        message = self._messages[method.input_type]
        fields = message.field
        in_path = [each for each in fields if f"{{{each.name}}}" in url]
        others = [each for each in fields if each not in in_path]
        parameters = [self._parameter(message, each, "path") for each in in_path]
        if not has_body:
            parameters += [self._parameter(message, each, "query") for each in others]
        if verb != "get":
            parameters.append({"$ref": "#/components/parameters/RequestId"})
        operation: Json = {
            "operationId": method.name,
            "summary": re.split(r"[.;:](?:\s|$)", comment, maxsplit=1)[0],
            "description": comment,
            "tags": [service.name],
            "parameters": parameters,
        }
        if has_body:
            sent = {"type": "object", "properties": {each.name: self._field(message, each) for each in others}}
            operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": sent}}}
        answer = "One JSON object a line, each as soon as it is read" if method.server_streaming else "The answer"
        schema = self._schema(method.output_type)
        operation["responses"] = {
            "200": {"description": answer, "content": {"application/json": {"schema": schema}}},
            "default": {"$ref": "#/components/responses/Error"},
        }
        return operation

    def _parameter(self, message: DescriptorProto, field: FieldDescriptorProto, place: str) -> Json:
        schema = self._field(message, field)
        description = schema.pop("description", "")
        required = {"required": True} if place == "path" else {}
        return {"name": field.name, "in": place, **required, "description": description, "schema": schema}

    def _field(self, message: DescriptorProto, field: FieldDescriptorProto) -> Json:
        if field.type == FieldDescriptorProto.TYPE_MESSAGE:
            schema = self._schema(field.type_name)
        else:
            schema = {**SCALARS[field.type]}
        if field.label == FieldDescriptorProto.LABEL_REPEATED:
            schema = {"type": "array", "items": schema}
        comment = self._comment(message.name, field.name)
        return {**schema, "description": comment} if comment else schema

    def _schema(self, name: str) -> Json:
        """A message as it is answered, with all its fields."""
        if name == ".google.protobuf.Empty":
            return {"type": "object"}
        message = self._messages[name]
        if message.name not in self._schemas:
            comment = self._comment(message.name)
            self._schemas[message.name] = {
                "type": "object",
                **({"description": comment} if comment else {}),
                "properties": {each.name: self._field(message, each) for each in message.field},
                "required": [each.name for each in message.field],
            }
        return {"$ref": f"#/components/schemas/{message.name}"}
