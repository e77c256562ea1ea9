"""From what went wrong to what to change: causes with their evidence, the next run, and which run came from which."""
