"""Cases of `slipstream why`: faults that are planted, healthy runs, and programs of others."""
