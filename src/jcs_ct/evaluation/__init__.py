"""Whole evaluations: cases and predictions in, tables and figures out."""
