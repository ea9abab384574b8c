"""Inputs of a network that are computed before it predicts: flow, cameras, static depth and a depth prior."""
