"""What this machine can be asked: one source a file, each with a deadline, none trusted to live."""
