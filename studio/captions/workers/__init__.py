"""Engines that caption pictures, and the jobs that run them. May load onnxruntime, httpx, torch and transformers."""
