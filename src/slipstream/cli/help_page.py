"""The page of `slipstream --help`, made without composing a configuration."""

from __future__ import annotations

import importlib
from collections.abc import Sequence

from slipstream.cli.commands import COMMANDS
from slipstream.cli.completion import groups, option_names

PAGE = """slipstream trains neural networks described by a command line.

  python train.py                                    an MLP on the handwritten digits
  python train.py data=iris optimizer=sgd optimizer.lr=0.1
  python train.py regularizer=[dropout,l2] regularizer.dropout.rate=0.3
  python train.py data=table data.path=my.csv data.target=churned
  python train.py -m optimizer=sgd,adam seed=0,1,2   all combinations, trained together
  python train.py -m sweep=tpe 'optimizer.lr=tag(log,interval(1e-4,1))'
  python train.py resume=outputs/digits/DATE         continue a run or a sweep

slipstream list [GROUP [OPTION]] explains every group, option and setting.

Commands for trained runs (slipstream COMMAND --help has examples):

{commands}

Groups (group=option):

{groups}

Flags:
  --cfg job               print the configuration instead of running (--resolve fills in references)
  --config-dir DIR        a folder with your own options, such as DIR/optimizer/mine.yaml
  -m, --multirun          a sweep: all combinations of comma-separated values, or a search
  -sc install=bash        tab completion: eval "$(python train.py -sc install=bash)"
  --version, --hydra-help

--cfg job prints all other keys."""


def page(arguments: Sequence[str]) -> str:
    """Return the help, with the options of a user's --config-dir among the arguments."""
    told = [
        f"  {command:12} {(importlib.import_module(module).__doc__ or '').strip().partition(': ')[2]}"
        for command, module in COMMANDS.items()
    ]
    lines = [f"{group}: {', '.join(sorted(option_names(group, arguments)))}" for group in groups()]
    return PAGE.format(commands="\n".join(told), groups="\n".join(lines))
