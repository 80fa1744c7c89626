"""Inputs that once came out wrong, with what is right: after reports about other projects, and after published data.

An answer is a row of `answers.json`, a judge's reply one of `replies.json`, a program one of `programs.json`; whatever
needs more than a row is a test of its own. `python -m tests.bars.cases` runs them all.
"""
