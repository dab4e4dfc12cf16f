"""The engine: what is fixed (program), one step, evaluation, an epoch's plan, the loop."""
