"""Properties are checked without a time limit per example: the machine that runs the tests may be busy."""

from hypothesis import settings

settings.register_profile("patient", deadline=None)
settings.load_profile("patient")
