"""Policies that decide a task window: without training, or from a trained checkpoint."""
