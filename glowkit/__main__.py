"""`python -m glowkit`, and so `torchrun -m glowkit train CONFIG`."""

from glowkit.cli import app

app(prog_name="glowkit")
