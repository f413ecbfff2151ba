"""Settings of all tests: property tests are bounded by examples, not by the clock of a busy machine."""

from hypothesis import settings

settings.register_profile("unetpipe", deadline=None, max_examples=40, derandomize=True)
settings.load_profile("unetpipe")
