"""How long a test waits for what must happen."""

PATIENCE = 120.0
"""Seconds. Nothing takes so long on the busiest machine, unless it hangs; no test waits so long if all is well."""
