"""ACNet's context: where it wants the global one and where a local one (the paper's Figure 4)."""

from mmseg_ctx.visualization.panels import add_colour_bar, show_map

HEIGHT = 5.0


def modules(head):
    """Return the modules to record by name: the global context modules, coarsest first."""
    gates = [*(block.global_context for block in head.blocks), head.global_context]
    gates = [gate for gate in gates if gate is not None]
    return {f'gate {index}': module for index, module in enumerate(gates)}


def draw(figure, head, records, scene):
    """Draw each global gate over the image, and what it leaves to local context.

    Args:
        figure (matplotlib.figure.SubFigure): Where.
        head (AdaptiveContextHead): The head.
        records (dict): See :func:`mmseg_ctx.visualization.scene.recording`.
        scene (Scene): The image.
    """
    gates = [records[name][1][1][0, 0] for name in modules(head)]  # each [h, w]
    grid = figure.subplots(2, len(gates), squeeze=False)
    for block, (gate, (above, below)) in enumerate(zip(gates, grid.T, strict=True), start=1):
        scale = f'1/{round(scene.image.shape[0] / gate.size(0))}'
        title = f'block {block} at {scale}'
        kinds = (above, gate, 'global gate w'), (below, 1 - gate, 'local gate 1 − w')
        for axes, values, kind in kinds:
            shown = show_map(axes, values, f'{title}: {kind}', scene.image, (0, 1))
            add_colour_bar(shown)
