"""The context of a head without a sheet of its own: how sure it is, and the maps that it shows."""

from mmseg_ctx.visualization.panels import Map, PixelAnswer, in_rows
from mmseg_ctx.visualization.prediction import most_probable

TITLE = 'Confidence, and what the head shows of itself'
EXPLANATION = (
    'Confidence is the probability of the predicted class. A map of several channels is drawn as '
    'their mean.'
)
CONFIDENCE, MAPS, COLUMNS = 'confidence', 6, 3


def read_context(head, shown, prediction):
    """Return the confidence ``[H, W]`` and the mean of each map ``[h, w]``, by title."""
    _, confidence = most_probable(prediction.logits, count=1)  # [1, H, W]
    maps = {CONFIDENCE: confidence[0]}
    for name, tensors in shown.items():
        for index, tensor in enumerate(tensors, start=1):
            if tensor.dim() == 4:
                title = name if len(tensors) == 1 else f'{name} {index}'
                maps[title] = tensor[0].float().mean(dim=0).cpu()
    return maps


def panels(maps, prediction, pixel=None):
    """Return the confidence and the first maps over the image."""
    confidence, *others = list(maps.items())[:MAPS]
    # The confidence is of the original image, which is not padded.
    drawn = [Map(*confidence, limits=(0, 1), pixel=pixel)]
    drawn += [Map(*each, prediction, pixel=pixel) for each in others]
    return in_rows(drawn, COLUMNS)


def at_pixel(maps, prediction, pixel):
    """Return the values of the maps at a pixel."""
    confidence = maps[CONFIDENCE][pixel].item()
    rows = [[title, prediction.at(values, pixel).item()] for title, values in maps.items()]
    rows[0][1] = confidence
    sentence = f'The probability of the predicted class is {confidence:.2f}.'
    return PixelAnswer(sentence, ('map', 'value here'), rows, panels(maps, prediction, pixel))
