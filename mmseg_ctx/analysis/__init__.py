"""What a model costs (parameters, multiply-adds, time, memory) and what it learns."""
