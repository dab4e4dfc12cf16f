"""A finished run in memory, and writing it to a folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from slipstream.core import storage
from slipstream.core.types import Plain
from slipstream.runs import checkpoints, run_folder
from slipstream.runs.recorder import yaml_text
from slipstream.training.member import METRICS
from slipstream.training.snapshot import Taken, Tensors


@dataclass(frozen=True)
class Trained:
    """A finished run in memory, with everything that its folder would contain.

    raw: the configuration. fitted: preprocessing.json. step, tensors, state: the last checkpoint. summary:
    summary.json. overrides: overrides.yaml.
    """

    raw: Mapping[str, Plain]
    fitted: str
    step: int
    tensors: Tensors
    state: Mapping[str, Plain]
    summary: str
    overrides: Sequence[str] = ()

    @property
    def snapshot(self) -> Taken:
        """The last checkpoint, for runs that begin from it."""
        return self.tensors, self.state

    def save(self, directory: Path) -> None:
        """Write the run's folder. Raises UserError if it already contains a run."""
        with run_folder.claim(directory, resume=False, advice="choose another folder"):
            run_folder.write_start(directory, self.overrides, yaml_text(self.raw))
            storage.replace(directory / "preprocessing.json", self.fitted)
            storage.replace(directory / METRICS, "".join(map(storage.line, self.state["records"])))
            checkpoints.save(directory / "checkpoints", self.step, self.tensors, self.state, keep=1)
            storage.replace(directory / run_folder.SUMMARY, self.summary)
