"""Rows on the success of edits, from the sweep: does adding work, where, and how far from the truth?"""

ROWS = {}
