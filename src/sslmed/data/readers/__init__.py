"""Readers of public sets and of your own folders: where the files are, and which belong to one case."""
