"""The paper's published numbers: its Tables IV and V as CSV."""
