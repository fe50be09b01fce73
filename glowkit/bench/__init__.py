"""What a Glow costs: `compare` times ours beside a peer, `scaling` finds how cost grows with its shape."""
