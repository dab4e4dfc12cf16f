"""The warm process that forks the runs to be killed."""

import json
import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


class Warm:
    """Starts jobs in forks of one process that has imported torch."""

    def __init__(self, folder):
        path = os.pathsep.join([str(HERE.parent), os.environ.get("PYTHONPATH", "")])
        self.folder = folder
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "warm.py"), str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "COLUMNS": "200"},
        )
        assert self.process.stdout.readline() == "ready\n"

    def _ask(self, message):
        self.process.stdin.write(json.dumps(message) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def start(self, does, directory, **job):
        """Start a job; its process id."""
        output = str(self.folder / "output.txt")
        return self._ask({"does": does, "directory": str(directory), "output": output, **job})

    def wait(self, pid):
        """How it ended: (exit code or minus the signal, what it printed)."""
        code = self._ask({"wait": pid})
        return code, (self.folder / "output.txt").read_text()

    def close(self):
        """Let the process end."""
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()

    def run(self, does, directory, **job):
        """Start a job and wait for it."""
        return self.wait(self.start(does, directory, **job))
