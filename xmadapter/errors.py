"""Every error a user can meet, with the code that scripts branch on.

    XMAdapterError
    ├── ConfigError (ValueError)        2   a config, override or argument is wrong
    │   ├── FingerprintMismatch         2   store, bundle and encoder do not belong together
    │   └── MissingExtra                2   an optional dependency is absent
    ├── DataError                       3   a split, index or source image set is malformed
    │   ├── EpisodeError (ValueError)   3   not enough samples for the shots asked
    │   ├── NonFiniteFeature            3   an encoder produced NaN, infinity or a zero norm
    │   ├── AllTrialsFailed             3   no trial of a sweep succeeded
    │   ├── TooManyFailed               3   more trials failed than a sweep allows
    │   ├── NotBetter                   3   what was to be promoted is not shown to be better than what is there
    │   └── NotReproduced               3   a published figure that others found is not found here
    ├── IntegrityError                  4   bytes are not what the manifest or bundle says
    │   ├── StoreIncomplete             4   no manifest, or a shard is missing
    │   └── UnknownVersion              4   written by a newer format
    ├── StoreConflict                   5   someone else committed another plan
    ├── ResourceError                   6   disk or memory is exhausted, or not writable
    ├── TrackingError                   7   results are complete here but not delivered
    ├── SkipBudgetExceeded              8   more samples skipped than `max_skip_fraction`
    └── RetryLater                     75   nodes or servers did not come back in time

A message says what is wrong and where, what was kept, and what to do next.
"""

from typing import ClassVar

__all__ = [
    "AllTrialsFailed",
    "TooManyFailed",
    "ConfigError",
    "DataError",
    "EpisodeError",
    "FingerprintMismatch",
    "IntegrityError",
    "MissingExtra",
    "NonFiniteFeature",
    "NotBetter",
    "NotReproduced",
    "ResourceError",
    "RetryLater",
    "SkipBudgetExceeded",
    "StoreConflict",
    "StoreIncomplete",
    "TrackingError",
    "UnknownVersion",
    "XMAdapterError",
    "some",
]


class XMAdapterError(Exception):
    """Base of all errors that end in one line and an exit status."""

    code: ClassVar[str] = "error"
    exit_status: ClassVar[int] = 1


class ConfigError(XMAdapterError, ValueError):
    """A config, override or argument is wrong; names every fault with its path."""

    code = "config"
    exit_status = 2


class FingerprintMismatch(ConfigError):
    """Store, bundle and encoder do not belong together; names the fields that differ."""

    code = "fingerprint-mismatch"


class MissingExtra(ConfigError):
    """An optional dependency is absent; the message ends in the install command."""

    code = "missing-extra"


class DataError(XMAdapterError):
    """A split file, archive, index or image set is malformed; names file and record."""

    code = "data"
    exit_status = 3


class EpisodeError(DataError, ValueError):
    """A class has fewer samples than the shots asked for."""

    code = "episode"


class NonFiniteFeature(DataError):
    """An encoder produced NaN, infinity or a zero norm; names the row."""

    code = "non-finite-feature"


class AllTrialsFailed(DataError):
    """No trial of a sweep succeeded; gives the commonest cause once."""

    code = "all-trials-failed"


class TooManyFailed(DataError):
    """More trials of a sweep failed than its config allows; it stopped early and keeps the others."""

    code = "too-many-failed"


class NotBetter(DataError):
    """A candidate is not shown to be better than the champion."""

    code = "not-better"


class NotReproduced(DataError):
    """Zero-shot accuracy is not what others found: data, prompts, weights or preprocessing differ from theirs."""

    code = "not-reproduced"


class IntegrityError(XMAdapterError):
    """Bytes are not what the manifest or bundle says."""

    code = "integrity"
    exit_status = 4


class StoreIncomplete(IntegrityError):
    """A store has no manifest, or a shard that the manifest names is missing."""

    code = "store-incomplete"


class UnknownVersion(IntegrityError):
    """A file was written by another version of the program."""

    code = "unknown-version"


class StoreConflict(XMAdapterError):
    """Another writer committed first with another plan; nothing is lost, nothing is merged."""

    code = "store-conflict"
    exit_status = 5


class ResourceError(XMAdapterError):
    """Disk or memory is exhausted, or a folder cannot be written."""

    code = "resource"
    exit_status = 6


class TrackingError(XMAdapterError):
    """Results are complete here but were not delivered to MLflow."""

    code = "tracking"
    exit_status = 7


class SkipBudgetExceeded(XMAdapterError):
    """The work finished, but more samples were skipped than `max_skip_fraction` allows."""

    code = "skip-budget"
    exit_status = 8


class RetryLater(XMAdapterError):
    """Nodes or servers did not come back in time; the same command resumes."""

    code = "retry-later"
    exit_status = 75


def some(names: list[str], limit: int = 5) -> str:
    """Join names for a message: sorted, at most `limit`, with the number left out.

    Example:
        >>> some(["b", "a", "c"], limit=2)
        'a, b and 1 more'
    """
    shown = ", ".join(sorted(names)[:limit])
    rest = len(names) - limit
    return f"{shown} and {rest} more" if rest > 0 else shown
