"""The mathematics: pure functions on tensors, without weights or state."""
