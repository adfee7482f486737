"""The embedded data set, its transform and its metric; importing this registers them."""
