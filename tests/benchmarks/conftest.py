"""Nothing here is a test: `python -m tests.benchmarks`."""

collect_ignore_glob = ["*"]
