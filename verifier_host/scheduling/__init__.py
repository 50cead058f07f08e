"""What the next engine step computes. Pure: no tensors, messages or clocks."""
