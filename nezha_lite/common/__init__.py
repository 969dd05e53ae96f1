"""What knows nothing of the field: files written whole, strict JSON, result rows, memory."""
