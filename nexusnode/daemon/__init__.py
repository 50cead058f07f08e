"""The contributor's process: states with reasons, hosts, drafting."""
