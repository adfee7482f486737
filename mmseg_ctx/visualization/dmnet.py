"""DMNet's context: the filters it makes for an image, and what each scale answers."""

from mmseg_ctx.visualization.panels import add_colour_bar, most_varied, show_kernels, show_map

FILTERS = 12
HEIGHT = 4.8


def modules(head):
    """Return the modules to record by name: each branch, and what generates its filters."""
    found = {}
    for index, branch in enumerate(head.dcm_modules):
        found[f'branch {index}'] = branch
        if head.filter_type == 'dynamic':
            found[f'filters {index}'] = branch.filter_gen_conv
    return found


def draw(figure, head, records, scene):
    """Draw each scale's response over the image, and below it some of its filters.

    The response is the mean over the channels. The filters are those of the channels whose
    responses vary most from place to place.

    Args:
        figure (matplotlib.figure.SubFigure): Where.
        head (DynamicMultiScaleHead): The head.
        records (dict): See :func:`mmseg_ctx.visualization.scene.recording`.
        scene (Scene): The image.
    """
    grid = figure.subplots(2, len(head.filter_sizes), squeeze=False)
    for index, (size, (above, below)) in enumerate(zip(head.filter_sizes, grid.T, strict=True)):
        response = records[f'branch {index}'][1][0].float()  # [C, h, w]
        if head.filter_type == 'dynamic':
            filters, kind = records[f'filters {index}'][1][0], 'generated'  # [C, k, k]
        else:
            filters, kind = head.dcm_modules[index].filter_conv.weight[:, 0], 'learned'
        channels = most_varied(response, FILTERS)
        shown = show_map(above, response.mean(dim=0), f'response of k = {size}', scene.image)
        add_colour_bar(shown)
        shown = show_kernels(below, filters[channels], f'{size}×{size} filters, {kind}')
        add_colour_bar(shown)
