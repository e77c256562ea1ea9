"""What sends to the hub, in a process of its own."""
