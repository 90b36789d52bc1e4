#!/usr/bin/env python3
"""Django's command line."""

import os
import sys

try:
    from django.core.management import execute_from_command_line
except ModuleNotFoundError:
    sys.exit("This Python has no Django. Use that of the folder .venv: .venv/bin/python manage.py …")

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "fedportal.settings")
    execute_from_command_line(sys.argv)
