"""The causes that `why` knows: the evidence that suggests each, and the change that proves it."""
