"""The training thread behind a page, and the messages it sends."""
