"""The body model's data, and the script that makes it."""
