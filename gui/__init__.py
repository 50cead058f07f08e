"""The desktop window, over the control API and nothing else."""
