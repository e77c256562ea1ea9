"""Training on Replicate: what its trainers take, its API spoken carefully, money watched, results fetched safely."""
