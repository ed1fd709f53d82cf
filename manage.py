#!/usr/bin/env python
"""The command line of the project."""

import os
import sys


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "activities_project.settings")
    keeps_nothing = sys.argv[1:2] == ["gateway"]
    if "--local" in sys.argv[2:] or keeps_nothing:
        os.environ["ACTIVITIES_BACKEND"] = "memory"  # before settings are read, so that nothing touches a database

    from django.core.exceptions import ImproperlyConfigured
    from django.core.management import execute_from_command_line

    try:
        execute_from_command_line(sys.argv)
    except ImproperlyConfigured as wrong:
        print(f"manage.py: {wrong}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:  # before the command was there to end politely
        sys.exit(130)
