"""Tools that make the files which the repository ships; nothing here is imported by the application."""
