# The product in one image; the command says which process it is.
FROM python:3.11-slim-bookworm AS build
WORKDIR /app
COPY requirements.txt .
RUN python -m venv /venv && /venv/bin/pip install --no-cache-dir --require-hashes -r requirements.txt

FROM python:3.11-slim-bookworm
RUN useradd --system --uid 10001 activities
COPY --from=build /venv /venv
WORKDIR /app
COPY activities activities
COPY activities_project activities_project
COPY bot bot
COPY grpc_server grpc_server
COPY kafka_worker kafka_worker
COPY proto proto
COPY manage.py .
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER activities
EXPOSE 8000 50051
ENTRYPOINT ["python", "manage.py"]
# Alone, in memory. Inside a container the loopback is the container's own: whoever runs it publishes the ports.
CMD ["serve", "--local", "--insecure", "--http", "0.0.0.0:8000", "--grpc", "0.0.0.0:50051"]
