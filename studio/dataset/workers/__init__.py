"""What runs as a job on the dataset and may load torch."""
