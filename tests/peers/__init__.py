"""Other clients and rxauth, side by side: `python -m tests.peers` (see README.md here)."""
