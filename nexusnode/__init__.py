"""The contributor's node: daemon, draft worker and command line."""
