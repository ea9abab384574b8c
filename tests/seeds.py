"""Seed of the numeric tests: `make test-portable` repeats them with several."""

import os

SEED = int(os.environ.get("ST4RTRACK_TEST_SEED", "0"))
