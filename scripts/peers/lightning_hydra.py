"""Lightning driven by Hydra's multirun, with its basic launcher: jobs one after another in one process."""

from __future__ import annotations

from dataclasses import dataclass

import hydra
import task
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from lightning_member import fit

mine = task.read()
data = mine.tensors()


@dataclass
class Member:
    """What is swept."""

    lr: float = 1e-3
    seed: int = 0


ConfigStore.instance().store(name="member", node=Member)


@hydra.main(version_base=None, config_name="member")
def main(member: Member) -> float:
    """One job."""
    return fit(mine, data, member.lr, member.seed, HydraConfig.get().runtime.output_dir)


if __name__ == "__main__":
    main()
