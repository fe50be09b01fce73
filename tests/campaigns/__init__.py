"""Campaigns: hundreds of killed commands, thousands of damaged files, and nothing may be lost, wrong or left behind.

`python -m tests.campaigns.kills` and `python -m tests.campaigns.damage`. Beside them `python -m tests.campaigns.coverage`:
how often each interval covers the truth. `make campaign` for all.
"""
