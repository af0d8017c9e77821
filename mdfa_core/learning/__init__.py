"""One mini-batch: the learner, its optimizers, sign-agreement probes, and steps replayed as a CUDA graph."""
