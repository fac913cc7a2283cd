"""The engine has one way for history and for snapshots."""

import catch_up  # noqa: F401
