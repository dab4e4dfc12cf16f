"""The warm process that forks the runs to be killed."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent


class Command:
    """A command of train.py in a fork of the warm process, with the methods of subprocess.Popen."""

    def __init__(self, warm, pid, output):
        self.warm, self.pid, self.output = warm, pid, output
        self.returncode = None

    def poll(self):
        """Return the exit code, or None if the command is still running."""
        if self.returncode is None:
            self.returncode = self.warm.ask({"poll": self.pid})
        return self.returncode

    def wait(self, timeout=600):
        """Return the exit code when the command has ended."""
        end = time.monotonic() + timeout
        while self.poll() is None:
            assert time.monotonic() < end, self.output.read_text()
            time.sleep(0.005)
        return self.returncode

    def communicate(self, timeout=600):
        """Return what the command printed until its end, and None."""
        self.wait(timeout)
        return self.output.read_text("utf-8"), None

    def send_signal(self, number):
        """Send a signal, unless the command was seen to have ended."""
        if self.poll() is None:
            os.kill(self.pid, number)  # not yet waited for: the number is still this process's

    def kill(self):
        """Send SIGKILL."""
        self.send_signal(signal.SIGKILL)


class Warm:
    """Starts jobs in forks of one process that has imported torch."""

    def __init__(self, folder):
        path = os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])
        self.folder, self.commands = folder, []
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "warm.py"), str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "COLUMNS": "200"},
        )
        assert self.process.stdout.readline() == "ready\n"

    def ask(self, message):
        """Return the warm process's answer to a message."""
        self.process.stdin.write(json.dumps(message) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def start(self, does, directory, **job):
        """Start a job; its process id."""
        output = str(self.folder / "output.txt")
        return self.ask({"does": does, "directory": str(directory), "output": output, **job})

    def wait(self, pid):
        """How it ended: (exit code or minus the signal, what it printed)."""
        code = self.ask({"wait": pid})
        return code, (self.folder / "output.txt").read_text()

    def command(self, *arguments, **job):
        """Start a command of train.py, which has the arguments after "train.py"; see warm.py for more."""
        output = self.folder / f"command-{len(self.commands)}.txt"
        message = {"does": "command", "arguments": arguments, "directory": "", "output": str(output), **job}
        self.commands.append(Command(self, self.ask(message), output))
        return self.commands[-1]

    def python(self, *words, cwd=".", env=None):
        """What subprocess.run gives for `python` and these words, but for the imports: only where a process
        that begins is not what is tested."""
        output, errors = self.folder / "python-output.txt", self.folder / "python-errors.txt"
        words, place = [str(word) for word in words], os.path.abspath(cwd)
        job = {"does": "python", "words": words, "cwd": place, "directory": ""}
        job |= {"environment": dict(os.environ if env is None else env)}
        pid = self.ask(job | {"output": str(output), "errors": str(errors)})
        code = self.ask({"wait": pid})
        return subprocess.CompletedProcess(
            ["python", *words], code, output.read_text("utf-8"), errors.read_text("utf-8")
        )

    def close(self):
        """End the commands that a failed test left, and let the process end."""
        for command in self.commands:
            command.kill()
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()

    def run(self, does, directory, **job):
        """Start a job and wait for it."""
        return self.wait(self.start(does, directory, **job))
