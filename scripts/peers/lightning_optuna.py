"""Lightning under Optuna: the same grid by its GridSampler, the study in memory, nothing pruned."""

from __future__ import annotations

import optuna
import task
from lightning_member import fit

mine = task.read()
data = mine.tensors()
optuna.logging.set_verbosity(optuna.logging.WARNING)


def objective(trial: optuna.Trial) -> float:
    """One trial."""
    lr = trial.suggest_float("lr", mine.rates[0], mine.rates[-1], log=True)
    seed = trial.suggest_int("seed", 0, mine.seeds - 1)
    return fit(mine, data, lr, seed, f"{mine.folder}/{trial.number}")


sampler = optuna.samplers.GridSampler({"lr": mine.rates, "seed": list(range(mine.seeds))})
study = optuna.create_study(sampler=sampler, direction="maximize")
study.optimize(objective, n_trials=len(mine.members))
