"""Tasks: what an encoder is fine-tuned to and tested on, with their metrics and their part of the report."""
