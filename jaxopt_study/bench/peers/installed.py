"""Which peers there are on this machine."""

import importlib.metadata


def installed(name: str) -> str | None:
    """The version of a package, None if it is not installed.

    >>> installed("no-such-package") is None
    True
    """
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
