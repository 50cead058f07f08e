"""The draft worker: a child process that grows guesses with llama.cpp."""
