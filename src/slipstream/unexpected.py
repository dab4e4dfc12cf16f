"""Errors that nothing in the package foresaw: whose they are, and how a command ends with them."""

from __future__ import annotations

import sys
import traceback
from contextlib import suppress

from slipstream.contracts import own_fault
from slipstream.errors import UserError, printable

# What the system says when it gives no more memory: to the loader of libraries, to Python, to threads.
SHORTAGE = ("failed to map segment", "annot allocate memory", "can't start new thread", "bad_alloc")


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


def _remedy() -> str:
    with suppress(ImportError, ValueError, OSError):
        import resource

        allowed, most = resource.getrlimit(resource.RLIMIT_AS)
        if allowed != resource.RLIM_INFINITY:
            more = "unlimited" if most == resource.RLIM_INFINITY else most >> 10
            cure = f"raise it with ulimit -Sv {more}" if most != allowed else "use a shell without this limit"
            return f"this process may have {allowed >> 20:,} MB of addresses: {cure}"
    return "free some, or train on less data"
