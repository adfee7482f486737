"""Work on tiles in several threads of the CPU, one thread a tile."""

from concurrent.futures import ThreadPoolExecutor

import torch


def in_threads(function, items, device):
    """Return what calls with consecutive items return, on a CPU in PyTorch's number of threads.

    Operations on a tile are short. If each were divided among threads, threads would wait for each
    other after each of them, and where another program needs the CPU they would wait long. So each
    thread has tiles of its own, and its operations run in it alone.
    """
    threads = torch.get_num_threads()
    count = min(threads, len(items)) if device.type == 'cpu' else 1
    if count <= 1:
        return [function(items)] if len(items) else []
    inference = torch.is_inference_mode_enabled()

    def call(part):
        torch.set_num_threads(1)  # of this thread
        with torch.inference_mode(inference), torch.no_grad():
            return function(part)

    parts = [
        items[len(items) * index // count : len(items) * (index + 1) // count]
        for index in range(count)
    ]
    try:
        with ThreadPoolExecutor(count) as executor:
            return list(executor.map(call, parts))
    finally:
        torch.set_num_threads(threads)  # which new threads start with
