"""The one exception tree of the package.

DolphinError          anything the package refuses or cannot do
├── InputError        what the user gave is wrong: one clear line, exit code 2
│   ├── DataError     a file, directory or table does not hold what it should
│   └── ConfigError   a parameter, option or profile is unknown or out of range
├── GridError         the shared memory cannot be reached or holds what it should not
├── ExchangeError     the venue, or a download from it, failed
└── SafetyError       an action was refused because it could lose money
"""

from __future__ import annotations


class DolphinError(Exception):
    """Anything the package refuses or cannot do; the message is one line and says what to do."""

    exit_code = 1


class InputError(DolphinError):
    """What the user gave is wrong; nothing was written."""

    exit_code = 2


class DataError(InputError):
    """A file, directory or table does not hold what it should (SPEC §1.4)."""


class ConfigError(InputError):
    """A parameter, option or profile is unknown or out of range."""


class GridError(DolphinError):
    """The shared memory cannot be reached or holds what it should not."""


class ExchangeError(DolphinError):
    """The venue, or a download from it, failed."""


class SafetyError(DolphinError):
    """An action was refused because it could lose money."""
