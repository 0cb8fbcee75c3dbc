"""What the maps of the XDP data plane hold, compiled from the gateway and the states of its nodes."""
