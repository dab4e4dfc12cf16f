"""Networks with several outputs for each example: their losses and their scores are averaged."""

import pytest
import torch

from harness import engine_of, tiny, tiny_data
from slipstream.training.evaluate import make_predict


@pytest.mark.parametrize("task", ["binary", "multiclass", "multilabel", "regression"])
def test_losses_and_scores_are_means_over_the_ensemble(task):
    """The loss is the mean of each one's loss, the scores the mean of each one's scores."""
    data = tiny_data(task)
    engine = engine_of(tiny(), data)
    program, numbers = engine.program, engine.numbers
    targets = data.train.targets
    outputs = torch.randn(len(targets), 4, program.outputs(engine.configs[0]))
    each = [program.losses(outputs[:, e], targets, numbers) for e in range(4)]
    torch.testing.assert_close(program.losses(outputs, targets, numbers), torch.stack(each).mean(0))
    each = [program.scores(outputs[:, e], numbers) for e in range(4)]
    torch.testing.assert_close(program.scores(outputs, numbers), torch.stack(each).mean(0))


def test_several_sets_of_parameters_predict_side_by_side():
    """A vector of E P parameters is E networks: outputs [N, E, C], each as if it had been alone."""
    data = tiny_data()
    engine = engine_of(tiny(), data)
    state, predict = engine.start(), make_predict(engine.program)
    two = torch.cat([state.params, state.params * 0.5])
    outputs = predict(two, state.buffers, data.train.inputs)
    assert torch.equal(outputs[:, 0], predict(state.params, state.buffers, data.train.inputs))
    assert torch.equal(outputs[:, 1], predict(state.params * 0.5, state.buffers, data.train.inputs))
