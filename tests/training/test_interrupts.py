"""Signals become a flag that the loop reads; the second one leaves at once."""

import os
import signal
import subprocess
import sys
import threading

import pytest

from slipstream.training.interrupts import Interrupts


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGXCPU, 152)],
)
@pytest.mark.usefixtures("hangup_ends")
def test_a_signal_is_kept_and_does_not_end_the_process(number, code):
    """The first signal sets `received`; its exit code is 128 and its number."""
    with Interrupts() as interrupts:
        assert interrupts.received is None
        os.kill(os.getpid(), number)
        assert interrupts.received == number
        assert interrupts.exit_code == code


def test_handlers_are_given_back():
    """After it, also after an exception, signals do what they did before."""
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with Interrupts():
        assert signal.getsignal(signal.SIGINT) is not before[0]
    with pytest.raises(ZeroDivisionError), Interrupts():
        raise ZeroDivisionError
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_a_hangup_stays_ignored_where_it_was():
    """As `nohup` has it; it is neither kept nor does it end the process."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Interrupts() as interrupts:
            os.kill(os.getpid(), signal.SIGHUP)
            assert interrupts.received is None
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGXCPU])
@pytest.mark.usefixtures("hangup_ends")
def test_a_second_one_of_these_is_no_second_signal(number):
    """A shell and the system both send SIGHUP when a terminal closes, and the kernel SIGXCPU every second:
    what is saved is not cut off."""
    with Interrupts() as interrupts:
        os.kill(os.getpid(), number)
        os.kill(os.getpid(), number)
        assert interrupts.received == number


@pytest.mark.slow
def test_a_limit_of_the_processors_time_ends_a_run(tmp_path, warm):
    """The kernel's own SIGXCPU: the run is saved and says so, exit code 152."""
    program = """
import sys, time
from pathlib import Path
from ondisk import train_in
from slipstream.training.engine import Engine
import resource
plain = Engine.step
def step(self, *arguments):
    began = time.process_time()
    while time.process_time() - began < 0.2:
        pass
    return plain(self, *arguments)
Engine.step = step
used = int(time.process_time())
resource.setrlimit(resource.RLIMIT_CPU, (used + 1, used + 100))
result = train_in(Path(sys.argv[1]), {"trainer.max_epochs": 1000})
print(result.status, result.reason)
sys.exit(result.exit_code)
"""
    done = warm.python("-c", program, tmp_path / "run")
    assert (done.returncode, done.stdout.split()[-2:]) == (152, ["interrupted", "SIGXCPU"]), done.stderr


def test_outside_the_main_thread_signals_are_left_alone():
    """Only the main thread may take them over: elsewhere a run trains without."""
    before, found = signal.getsignal(signal.SIGTERM), []

    def work():
        with Interrupts() as interrupts:
            found.append((signal.getsignal(signal.SIGTERM), interrupts.received))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [(before, None)]


@pytest.mark.parametrize(("second", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_the_second_signal_ends_the_process_at_once(second, code):
    """Not even a `finally` runs; the exit code is that of the second signal."""
    program = f"""
import os, signal
from slipstream.training.interrupts import Interrupts
with Interrupts():
    try:
        os.kill(os.getpid(), signal.SIGTERM)
        print("still here", flush=True)
        os.kill(os.getpid(), signal.{second})
    finally:
        print("never")
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (code, "still here\n")
