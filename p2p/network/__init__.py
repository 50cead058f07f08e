"""Peers, and how bytes reach them. The only room that imports libp2p."""
