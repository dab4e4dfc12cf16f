"""The writers of a run's curves: TensorBoard, which no other package imports."""
