"""The only effects: nftables, addresses, sysctls and frames, each in its own small module."""
