"""The command line of `train.py` and `slipstream`: everything a user can type, and the exit codes.

Exit codes: 0 finished; 2 a mistake that the user can fix; 3 training failed (a run diverged, or some members
of a sweep failed); 130 Ctrl-C, 143 SIGTERM, 129 closed terminal, 152 SIGXCPU; 1 a bug in slipstream.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING

from slipstream.cli import commands, early_signals, unexpected
from slipstream.cli.hydra_task import Runner
from slipstream.core.errors import ConfigError, UserError, did_you_mean, nearest, printable
from slipstream.core.wording import shell

if TYPE_CHECKING:
    from argparse import Namespace

    from omegaconf import DictConfig

    from slipstream.sweeps.plan.planning import Command

MULTIRUN = ("-m", "--multirun")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and exit.

    Import the modules that register your own components before calling this.

    Args:
        arguments: the command line without the program's name; None means sys.argv[1:].

    Raises:
        SystemExit: always, with the exit code of the command.
    """
    _make_streams_safe()
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        with early_signals.raised():
            code = _run(words)
        sys.stdout.flush()
    except UserError as error:
        print(printable(str(error)), file=sys.stderr)
        code = error.exit_code
    except KeyboardInterrupt as error:  # once training has started, training/interrupts.py handles it
        trains = not words or words[0] not in commands.COMMANDS
        print("interrupted" + " before training started" * trains, file=sys.stderr)
        code = 128 + (error.number if isinstance(error, early_signals.Terminated) else signal.SIGINT)
    except BrokenPipeError:
        # The reader closed the pipe (`| head -1`). Python would raise again when it closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 141
    except Exception as error:
        code = unexpected.tell(error)
    sys.exit(code)


def _make_streams_safe() -> None:
    """Prevent a closed stream, or a character that the terminal cannot show, from ending a run."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        with suppress(AttributeError):  # a replacement stream may lack it
            getattr(sys, name).reconfigure(errors="replace")


def _run(arguments: list[str]) -> int:
    if "_ARGCOMPLETE" in os.environ:
        from slipstream.cli import completion

        completion.answer()
    if "-sc" in arguments and any(text.startswith("query=") for text in arguments):
        return _complete_for_hydra()
    if "list" in arguments:
        from slipstream.cli import listing

        if listing.is_asked(arguments):
            load_installed_components()
            listing.show(arguments)
            return 0
    if arguments and arguments[0] in commands.COMMANDS:
        load_installed_components()
        return commands.run(arguments)
    if arguments[:1] == ["train"]:
        arguments = arguments[1:]
    elif arguments and arguments[0].isidentifier():
        _require_command(*arguments)
    if {"-h", "--help"} & set(arguments):
        from slipstream.cli.help_page import page

        print(page(arguments))
        return 0
    if "--version" in arguments:
        from slipstream.core.version import __version__

        print(f"slipstream {__version__}")
        return 0
    return _hydra(arguments)


def _require_command(word: str, *rest: str) -> None:
    """Raise UserError for a first word that no setting explains, or that a run's folder follows."""
    from slipstream.config.hints import bare

    known = (*commands.COMMANDS, "train", "list")
    near = nearest(word, known)
    if not (rest and Path(rest[0], "config.yaml").exists()) and bare(word):
        return
    hint = f"did you mean {' '.join(map(shell, ['slipstream', near, *rest]))}?" if near else ""
    raise UserError(f"{word}: no such command, {hint or did_you_mean(word, known)}")


def _complete_for_hydra() -> int:
    """Answer the script of `-sc install=SHELL`, in Hydra's place: it knows neither commands nor runs."""
    from slipstream.cli import completion

    line = os.environ.get("COMP_LINE", "")
    words = [*line.split(), *([""] if line.endswith(" ") else [])]
    typed = words[2 if words and words[0].startswith("python") else 1 :]
    with suppress(Exception):  # an error message would garble the prompt
        print(" ".join(completion.offers(typed[:-1], typed[-1])))
    return 0


def load_installed_components() -> None:
    """Import the modules that installed packages list under the entry point group `slipstream.components`."""
    from importlib.metadata import entry_points

    for point in entry_points(group="slipstream.components"):
        try:
            point.load()
        except Exception as error:
            raise UserError(
                f"Cannot load the installed components {point.name} ({point.value}): "
                f"{type(error).__name__}: {error}"
            ) from error


def _hydra(arguments: list[str]) -> int:
    from slipstream.core.compat import get_args_parser

    # argparse rejects overrides that follow a flag in the middle of other overrides.
    moved = [text for text in arguments if text in MULTIRUN]
    arguments = [*moved, *(text for text in arguments if text not in MULTIRUN)]
    parser = get_args_parser()
    _check_flags(arguments, list(parser._option_string_actions))
    flags = parser.parse_args(arguments)
    if flags.config_path or flags.config_name or flags.experimental_rerun:
        raise UserError(
            "--config-path, --config-name and --experimental-rerun are not supported; use --config-dir DIR"
        )
    trains = not (flags.hydra_help or flags.cfg or flags.info or flags.shell_completion)
    if trains:
        unexpected.require_addresses()
    if not flags.shell_completion:
        load_installed_components()
    from slipstream.config import composition, replay
    from slipstream.sweeps.plan.store import holds_sweep

    composition.use_folder(flags.config_dir)
    overrides: list[str] = flags.overrides
    if twice := composition.contradictions(overrides):
        raise ConfigError(twice)
    multirun = flags.multirun or "hydra.mode=MULTIRUN" in overrides
    folder = replay.folder_of(overrides)
    if multirun and folder is not None:
        raise UserError("resume continues a run or a sweep with its own settings; remove -m")
    if folder is not None and trains and holds_sweep(folder):
        return _resume_sweep(folder, overrides)
    sweep = _sweep(overrides, multirun, flags) if trains or flags.cfg or flags.info else None
    if sweep is not None:
        arguments = _sweep_arguments(arguments, overrides, sweep, trains)
    elif trains:
        check(overrides)
    if folder is not None:
        arguments = [a for a in arguments if a not in overrides] + replay.replay(overrides)
    runner = Runner(None if sweep is None else sweep.plan)
    try:
        _call_hydra(arguments, runner)
    except SystemExit as end:
        runner.report()
        if runner.bug is not None:
            raise runner.bug from None
        return 2 if end.code == 1 else int(end.code or 0)  # Hydra exits with 1 for a misspelled `--package`
    except Exception as error:
        if flags.shell_completion:
            raise UserError(f"-sc: expected install=SHELL or uninstall=SHELL ({error})") from error
        if isinstance(error, composition.FAULTS):
            if sweep is None:
                check(overrides)  # its message is better, if it finds the problem
            raise ConfigError(composition.explain(error)) from error
        if isinstance(error, OSError) and not isinstance(error, BrokenPipeError):
            kind = "run" if sweep is None else "sweep"
            raise UserError(
                f"{error.filename}: cannot create the folder of the {kind}: {error.strerror}. "
                f"Choose another one with hydra.{kind}.dir=DIR"
            ) from error
        raise
    runner.report()
    return runner.exit_code


def _check_flags(arguments: Sequence[str], known: Sequence[str]) -> None:
    """Raise ConfigError for flags such as --lr 0.1, for which argparse would print Hydra's usage."""
    unknown = []
    for word, after in zip_longest(arguments, arguments[1:], fillvalue=""):
        name, equals, value = word.partition("=")
        if len(word) > 1 and word.startswith("-") and not any(flag.startswith(name) for flag in known):
            given = value if equals else after
            alone = not given or (not equals and ("=" in given or given.startswith("--")))
            unknown.append((name, None if alone else given))
    if unknown:
        from slipstream.config import grammar, hints

        values = [value and grammar.value_of(value) for _, value in unknown]
        raise ConfigError(hints.flag(name, value) for (name, _), value in zip(unknown, values, strict=True))


def _resume_sweep(folder: Path, overrides: Sequence[str]) -> int:
    from slipstream.sweeps.runner import resume

    return resume(folder, [text for text in overrides if not text.startswith("resume=")])


def _sweep(overrides: Sequence[str], multirun: bool, flags: Namespace) -> Command | None:
    """Return the sweep plan of the command if it has -m or a selected YAML file defines a sweep."""
    from slipstream.sweeps.plan import planning

    # Composing twice costs a tenth of a second, and only these can define a sweep.space.
    may = flags.config_dir or any(text.startswith(("experiment=", "hydra.searchpath")) for text in overrides)
    if multirun or (may and planning.is_sweep(overrides)):
        return planning.command(overrides)
    return None


def _sweep_arguments(
    arguments: Sequence[str], overrides: Sequence[str], sweep: Command, trains: bool
) -> list[str]:
    """Return the arguments for Hydra: unchanged for its own sweepers, a single job for slipstream's."""
    rest = [text for text in arguments if text not in MULTIRUN]
    if trains:
        rest.append("--multirun")
        if sweep.sweeper == "basic":
            return rest
    flags = [text for text in rest if text not in overrides]
    context = [text for text in sweep.context if trains or text != "hydra.mode=MULTIRUN"]
    return [*flags, *context, *sweep.plan.example.overrides]


def check(overrides: Sequence[str]) -> None:
    """Raise ConfigError unless the overrides describe a valid run. Write nothing."""
    from slipstream.config.validation import composed

    composed(overrides)


def _call_hydra(arguments: Sequence[str], task: Callable[[DictConfig], object]) -> None:
    import hydra

    from slipstream.config import composition
    from slipstream.config.files import folder

    arguments = [text for text in arguments if not composition.is_default(text)]
    argv, sys.argv = sys.argv, [sys.argv[0], *arguments]
    full_error = os.environ.get("HYDRA_FULL_ERROR")
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises errors instead of printing them
    try:
        hydra.main(config_path=str(folder()), config_name=composition.ROOT, version_base="1.3")(task)()
    finally:
        sys.argv = argv
        os.environ.pop("HYDRA_FULL_ERROR")
        if full_error is not None:
            os.environ["HYDRA_FULL_ERROR"] = full_error
