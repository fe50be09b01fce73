"""One thread a process: tests run side by side, and small tensors gain nothing from a second core."""

import os

os.environ["OMP_NUM_THREADS"] = "1"

import torch  # noqa: E402

torch.set_num_threads(1)
