"""Compiling ahead of need: the queue, its workers, and what they are told to do."""
