"""The command line: the same functions as the pages, for terminals and scripts."""
