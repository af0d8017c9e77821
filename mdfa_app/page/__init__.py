"""One visitor's page: its state, its widgets, and the controller that connects them to the trainer and the charts."""
