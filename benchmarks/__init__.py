"""Speed and memory, measured: each module prints a table and can write JSON."""
