"""Campaigns: hundreds of killed commands, thousands of damaged files, and nothing may be lost, wrong or left behind.

`python -m tests.campaigns.kills` and `python -m tests.campaigns.damage`, or `make campaign` for both.
"""
