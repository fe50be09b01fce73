"""Campaigns: hundreds of killed commands, thousands of damaged files, and nothing may be lost, wrong or left behind.

`python -m tests.campaigns.kills` and `python -m tests.campaigns.damage`; `make campaign` for both, and for
`python -m tests.campaigns.coverage`, which counts how often each interval covers the truth.
"""
