"""The command `nexus-verifier`: one file per command."""
