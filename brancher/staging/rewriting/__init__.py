"""Recorded graphs into graphs that do the same with less: no draw moves, numbers change by rounding only."""
