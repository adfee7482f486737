"""A page in the browser that shows what a model does with an image, pixel by pixel."""
