"""For all tests: an example of a property may take as long as it takes, as a slow machine is no failure."""

from hypothesis import settings

settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")
