"""The live app: a Panel page over `mdfa_core`; it draws and asks, the learning is all in the package."""
