"""Parts of networks, on the operations of any back end: attention, MLP, norms, rotations, and the decoder that puts
them together. They compute by a `ModelConfig` and know no family."""
