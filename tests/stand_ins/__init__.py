"""Modules that stand in for others here and in what tests start: the folder is on their path."""

from pathlib import Path

FOLDER = str(Path(__file__).parent)
