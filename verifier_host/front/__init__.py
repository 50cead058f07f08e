"""The operator's process: generations, text, drafters, engine client."""
