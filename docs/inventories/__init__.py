"""Inventories of other projects for the links of the documentation."""
