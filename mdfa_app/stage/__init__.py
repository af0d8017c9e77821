"""The compared rules: their list with the newest numbers, and the net that is drawn."""
