"""The app's pages: they read a project, draw it, and call the studio. No logic lives here."""
