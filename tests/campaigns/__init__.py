"""Campaigns: hundreds of killed commands, thousands of damaged files, and nothing may be lost, wrong or left behind.

`kills`, `disks` (full, closed, or shared by two runs), `damage` and `coverage` (how often each interval covers the
truth), each as `python -m tests.campaigns.NAME`. `make campaign` runs them all and writes the tables of the book's page
on them.
"""
