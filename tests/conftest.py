"""What every test runs under: steady threads, no network, the same examples each time."""

import os

# Set before torch is imported: two test processes on two cores must not wait by spinning.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

from hypothesis import settings

# No deadline, because a first call into torch is slow; fixed examples, because a check that fails
# now and then teaches nobody.
settings.register_profile("steady", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("steady")
