"""Readers of the public sets and of one's own folders: what lies where, and what belongs to one case."""
