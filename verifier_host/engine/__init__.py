"""The engine worker: a child process that runs the target with torch."""
