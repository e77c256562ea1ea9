"""What computes with the tensors of LoRA files, in a process of its own; may load torch."""
