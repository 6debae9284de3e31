"""The wire: a policy on another machine, over ZeroMQ. The client side needs no torch."""
