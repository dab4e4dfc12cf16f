import pytest

import slipstream
import slipstream.cli


@pytest.fixture(scope="session")
def small_run(tmp_path_factory):
    """A run of four epochs, of which the last two are saved."""
    folder = tmp_path_factory.mktemp("diagnosis") / "run"
    config = slipstream.compose(
        *("data=iris", "trainer.max_epochs=4", "trainer.checkpoint_seconds=0", "model.width=8"),
        *("regularizer=[dropout]", "regularizer.dropout.rate=0.3", "logger=[]", "early_stopping=none"),
    )
    slipstream.train_pack([config, config | {"seed": 1}], [folder, folder.with_name("other")])
    return folder


@pytest.fixture
def code():
    """Return the exit code of a command of this process."""

    def run(arguments):
        with pytest.raises(SystemExit) as ended:
            slipstream.cli.main(arguments)
        return ended.value.code

    return run
