"""Bytes to signed, bounded, typed frames and back. Pure: no files, sockets or clocks."""
