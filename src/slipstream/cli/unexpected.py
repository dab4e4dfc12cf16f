"""Unexpected errors: finding their origin and ending a command with a message."""

from __future__ import annotations

import sys
import traceback
from contextlib import suppress

from slipstream.core.contracts import own_fault
from slipstream.core.errors import UserError, printable

# Messages from the dynamic linker, Python and threads when the system refuses more memory.
SHORTAGE = ("failed to map segment", "annot allocate memory", "can't start new thread", "bad_alloc")
# For CPU builds of torch: with 700 MB something fails sooner or later; with 750 MB a small run works.
LEAST_ADDRESSES = 750 << 20


def tell(error: Exception) -> int:
    """Print what happened and return the exit code.

    An error in the user's own code or a lack of memory is explained in a sentence. Anything else is a bug in
    slipstream and keeps its traceback.
    """
    sentence = own_fault(error) or _shortage(error)
    if sentence:
        print(printable(sentence), file=sys.stderr)
        return UserError.exit_code
    traceback.print_exception(error)
    print("\nThis is a bug in slipstream. Please report it with the lines above.", file=sys.stderr)
    return 1


def _shortage(error: Exception) -> str | None:
    """Return advice if the system is out of memory, or None for any other error."""
    if not isinstance(error, MemoryError) and not any(words in str(error) for words in SHORTAGE):
        return None
    said = " ".join(str(error).split()) or "the system refused more"
    return f"out of memory ({said}); {_remedy()}. Saved files are not affected"


def require_addresses() -> None:
    """Raise UserError if the process has too little address space for torch and its libraries.

    Call this before importing them: the C library kills a process that runs out of address space meanwhile.
    """
    if said := _limit(LEAST_ADDRESSES):
        raise UserError(
            f"torch and its libraries need {LEAST_ADDRESSES >> 20} MB of address space, but {said}"
        )


def _remedy() -> str:
    return _limit() or "free some memory, or train on less data"


def _limit(enough: int | None = None) -> str | None:
    """Return the limit on address space and how to raise it, or None if there is none or it suffices."""
    with suppress(ImportError, ValueError, OSError):  # not on Windows
        import resource

        allowed, most = resource.getrlimit(resource.RLIMIT_AS)
        if allowed != resource.RLIM_INFINITY and (enough is None or allowed < enough):
            more = "unlimited" if most == resource.RLIM_INFINITY else most >> 10
            cure = f"raise it with ulimit -Sv {more}" if most != allowed else "use a shell without this limit"
            return f"this process is limited to {allowed >> 20:,} MB of address space; {cure}"
    return None
