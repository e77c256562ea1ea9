"""Publishing a LoRA to the Hugging Face hub: the card, what would be sent, and sending it."""
