"""What is compared, and what the nets have shown so far: plain data without Panel."""
