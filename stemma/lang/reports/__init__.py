"""What a state did and where its tokens came from: for a terminal, for a notebook. Knows nothing of states."""
