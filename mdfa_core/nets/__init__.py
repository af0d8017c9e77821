"""What is trained: activations, initial weights, losses, layers and networks."""
