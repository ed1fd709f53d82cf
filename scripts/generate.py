"""Makes what is generated and committed again, or checks that it is what would be made now.

python scripts/generate.py [--check] proto|openapi ...
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


SOURCES = sorted(path.relative_to(ROOT) for path in ROOT.glob("proto/**/*.proto"))


def protoc(*arguments: str | Path) -> None:
    import google.api

    shared = Path(next(iter(google.api.__path__))).parent.parent
    command = [sys.executable, "-m", "grpc_tools.protoc", "-I.", f"-I{shared}", *map(str, arguments)]
    subprocess.run(command, check=True, cwd=ROOT)


def proto(target: Path) -> list[Path]:
    """The protobuf and gRPC code, next to the .proto files; and what the gateway knows of them."""
    protoc(*(f"--{kind}_out={target}" for kind in ("python", "pyi", "grpc_python")), *SOURCES)
    suffixes = ("_pb2.py", "_pb2.pyi", "_pb2_grpc.py")
    made = [source.with_name(source.stem + suffix) for source in SOURCES for suffix in suffixes]
    return [*made, descriptors(target), gateway(target)]


def descriptors(target: Path) -> Path:
    """The services for Envoy, with the details of errors: without these it drops an error's body."""
    path = Path("deploy/envoy/activities.pb")
    (target / path).parent.mkdir(parents=True, exist_ok=True)
    details = "google/rpc/error_details.proto"
    protoc("--include_imports", f"--descriptor_set_out={target / path}", *SOURCES, details)
    return path


def gateway(target: Path) -> Path:
    """The OpenAPI description of the gateway, from the services' annotations and comments."""
    import gateway_openapi

    path = Path("activities/api/gateway.yaml")
    (target / path).parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        commented = Path(folder) / "set"
        protoc("--include_imports", "--include_source_info", f"--descriptor_set_out={commented}", *SOURCES)
        (target / path).write_text(gateway_openapi.described(commented.read_bytes()))
    return path


def openapi(target: Path) -> list[Path]:
    """The OpenAPI description of the HTTP interface."""
    path = Path("docs/openapi.yaml")
    (target / path).parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "manage.py", "spectacular", "--validate", "--fail-on-warn", "--file", str(target / path)]
    subprocess.run(command, check=True, cwd=ROOT, env={**os.environ, "ACTIVITIES_BACKEND": "memory"})
    return [path]


GENERATORS = {"proto": proto, "openapi": openapi}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("what", nargs="+", choices=GENERATORS)
    options = parser.parse_args()
    stale = []
    for what in options.what:
        if not options.check:
            GENERATORS[what](ROOT)
            continue
        with tempfile.TemporaryDirectory() as folder:
            made = GENERATORS[what](Path(folder))
            stale += [
                path
                for path in made
                if not (ROOT / path).exists() or (Path(folder) / path).read_bytes() != (ROOT / path).read_bytes()
            ]
    for path in stale:
        print(f"{path} is not what would be generated now: make proto openapi")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
