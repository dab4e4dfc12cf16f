"""What writes the curves of a run: TensorBoard, and nothing else knows it."""
