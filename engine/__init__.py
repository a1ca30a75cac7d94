"""The work of the scripts, on torch: training, checkpoints, scoring, enlarging."""
