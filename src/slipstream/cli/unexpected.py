"""Errors that nothing in the package foresaw: whose they are, and how a command ends with them."""

from __future__ import annotations

import sys
import traceback
from contextlib import suppress

from slipstream.core.contracts import own_fault
from slipstream.core.errors import UserError, printable

# What the system says when it gives no more memory: to the loader of libraries, to Python, to threads.
SHORTAGE = ("failed to map segment", "annot allocate memory", "can't start new thread", "bad_alloc")
# Of CPU builds; with 700 MB something fails, here or there, with 750 a small run does not.
LEAST_ADDRESSES = 750 << 20


def tell(error: Exception) -> int:
    """Print what happened; the exit code.

    The user's own code and a want of memory are named in a sentence, everything else is a bug of ours.
    """
    sentence = own_fault(error) or _shortage(error)
    if sentence:
        print(printable(sentence), file=sys.stderr)
        return UserError.exit_code
    traceback.print_exception(error)
    print("\nThis is a bug of slipstream. Please report it with the lines above.", file=sys.stderr)
    return 1


def _shortage(error: Exception) -> str | None:
    """What to do where the system gives no more memory, None where that is not what happened."""
    if not isinstance(error, MemoryError) and not any(words in str(error) for words in SHORTAGE):
        return None
    said = " ".join(str(error).split()) or "the system gives no more"
    return f"out of memory ({said}); {_remedy()}. What is saved is untouched"


def require_addresses() -> None:
    """Raise UserError where the libraries find no room among the addresses that this process may have.

    To be asked before they are loaded: the C library ends a process that gets too few in the middle of it.
    """
    if said := _limit(LEAST_ADDRESSES):
        raise UserError(f"torch and its libraries take {LEAST_ADDRESSES >> 20} MB of addresses, and {said}")


def _remedy() -> str:
    return _limit() or "free some, or train on less data"


def _limit(enough: int | None = None) -> str | None:
    """The limit of addresses and how to raise it, None where there is none or it is enough."""
    with suppress(ImportError, ValueError, OSError):  # Windows has none
        import resource

        allowed, most = resource.getrlimit(resource.RLIMIT_AS)
        if allowed != resource.RLIM_INFINITY and (enough is None or allowed < enough):
            more = "unlimited" if most == resource.RLIM_INFINITY else most >> 10
            cure = f"raise it with ulimit -Sv {more}" if most != allowed else "use a shell without this limit"
            return f"this process may have {allowed >> 20:,} MB of addresses: {cure}"
    return None
