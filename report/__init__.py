"""Figures for the course report. figures/ and results/ beside this file hold what test.py writes."""

import os

# whatever the user's notebook and matplotlibrc ask for, both of which could end a run: read when matplotlib is imported
os.environ |= {"MPLBACKEND": "Agg", "MATPLOTLIBRC": os.devnull}
