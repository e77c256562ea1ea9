"""What runs as a training job, in a process of its own. Only code in here imports torch."""
