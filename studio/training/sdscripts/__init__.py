"""kohya's sd-scripts, seen from outside: what its output means. Nothing here imports or starts it."""
