"""Drawing grids with ComfyUI: servers, graphs, the client, and workflows to carry away and bring back."""
