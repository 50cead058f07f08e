"""The daemon's API for command line and window, over a local socket."""
