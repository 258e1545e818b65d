"""What Python's types accept beyond JSON Schema: their texts as languages, and their core schemas as JSON Schemas."""
