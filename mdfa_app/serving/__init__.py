"""The server and its guard, and visitors who come and go."""
