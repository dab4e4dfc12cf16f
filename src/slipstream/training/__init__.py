"""Training: the model specification, the step, packs, the engine, evaluation, the loop."""
