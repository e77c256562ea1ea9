"""Captions: the texts beside the pictures, who wrote them, bulk edits with undo, counts."""
