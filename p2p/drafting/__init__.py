"""What both ends of a drafting stream must agree on. Pure: bytes and time in, events out."""
