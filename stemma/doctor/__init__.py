"""What a running server's metrics say of where its time and memory go, and what to change: `stemma doctor`."""
