"""Pictures of what a model predicts and of the context that its head uses."""
