"""Makes .venv and installs the pinned dependencies into it. Standard library only: it runs before there are any.

    python3 scripts/set_up.py requirements.txt [requirements-dev.txt ...]

What it cannot install itself it names in one line with the command to type, and exits with 2.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

VENV = Path(__file__).resolve().parent.parent / ".venv"
PYTHON = VENV / "bin" / "python"


def main(lists: list[str]) -> int:
    if sys.version_info < (3, 11):
        print(f"Python 3.11 or newer is needed, this is {sys.version.split()[0]}: make PYTHON=python3.11 ...")
        return 2
    if not works(PYTHON):
        if not has_venv():
            return 2
        print("Making the virtual environment .venv", flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", VENV], check=True)
    for name in lists:
        print(f"Installing {name} (pinned, with hashes; a minute at most on a good line)", flush=True)
        pip = [str(PYTHON), "-m", "pip", "--disable-pip-version-check", "--no-input", "--quiet"]
        if subprocess.run([*pip, "install", "--require-hashes", "-r", name], check=False).returncode:
            print(f"Installing {name} failed: see above; run the same command again once that is mended")
            return 2
    return 0


def works(python: Path) -> bool:
    """Whether the interpreter is there and starts, which it does not after its system's was replaced."""
    try:
        return subprocess.run([python, "-m", "pip", "--version"], check=False, capture_output=True).returncode == 0
    except OSError:
        return False


def has_venv() -> bool:
    """Whether virtual environments can be made; installs Debian's package for that where it may."""
    if importlib.util.find_spec("ensurepip"):
        return True
    package = f"python{sys.version_info.major}.{sys.version_info.minor}-venv"
    may_sudo = shutil.which("sudo") and not subprocess.run(["sudo", "-n", "true"], check=False).returncode
    if os.geteuid() == 0 or may_sudo:
        apt = [*([] if os.geteuid() == 0 else ["sudo", "-n"]), "apt-get"]
        print(f"Installing the system package {package}", flush=True)
        subprocess.run([*apt, "-qq", "update"], check=False)
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        if not subprocess.run([*apt, "-qq", "install", "-y", package], check=False, env=environment).returncode:
            return True
    print(f"A system package is missing: sudo apt-get install -y {package}")
    return False


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
