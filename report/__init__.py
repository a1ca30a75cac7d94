"""Figures for the course report. figures/ and results/ beside this file hold what test.py writes."""
