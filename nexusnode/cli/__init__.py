"""The command `nexusnode`: one file per command."""
