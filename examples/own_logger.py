"""A logger of one's own: python examples/own_logger.py data=iris logger=[tail]"""

from slipstream import register
from slipstream.cli import main


@register("logger")
def tail(run, *, file: str = "tail.txt"):
    """Append a line of text for each epoch to a file in the run's folder."""

    def log(values, epoch):
        with (run.directory / file).open("a", encoding="utf-8") as lines:
            lines.write(f"{epoch} {values['val/loss']:.4f}\n")

    return log


if __name__ == "__main__":
    main()
