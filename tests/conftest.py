"""For all tests: examples of hypothesis have no deadline, since machines are shared and noisy."""

from hypothesis import settings

settings.register_profile("course", deadline=None)
settings.load_profile("course")
