"""Let the server answer only what the page uses."""

import re

from mmseg_ctx.visualization.explore.images import MAX_FILE_BYTES

MAX_BODY_BYTES = MAX_FILE_BYTES + 1024**2
"""Bytes of a request: one file, and the form around it."""
NEEDED = re.compile(
    r'/|/(assets|static|svelte)/.+|/(config|theme\.css|favicon\.ico|manifest\.json|robots\.txt)'
    r'|/gradio_api/(info|startup-events|theme\.css|upload|upload_progress|queue/join|queue/data'
    r'|heartbeat/[^/]+|reset|cancel)'
)
"""Addresses that are answered.

Gradio's ``file=``, ``proxy=`` and ``stream`` are not: the page contains its pictures itself.
"""
CONTENT_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; "
    "object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'"
)
"""Forbids the browser to fetch anything from another server, whatever the page contains."""


class Guard:
    """ASGI middleware that refuses addresses that the page does not use, and large requests.

    Gradio limits the bytes of each file in a form, but neither the number of files nor the bytes
    of other fields, which it keeps in memory.

    Args:
        app (Callable): The ASGI application that answers the others.
    """

    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        """Answer 404 or 413, or let the application answer and add the content policy."""

        async def send_with_policy(message):
            if message['type'] == 'http.response.start':
                policy = (b'content-security-policy', CONTENT_POLICY.encode())
                message['headers'] = [*message.get('headers', ()), policy]
            await send(message)

        if scope['type'] != 'http':
            await self.app(scope, receive, send)
        elif not NEEDED.fullmatch(scope['path'].rstrip('/') or '/'):
            await _refuse(send, 404, b'not found')
        elif _is_large(dict(scope['headers'])):
            await _refuse(send, 413, b'the request is too large, or does not say how large it is')
        else:
            await self.app(scope, receive, send_with_policy)


def _is_large(headers):
    """Return whether a request has too long a body, or does not say how long it is."""
    length = int(headers.get(b'content-length', 0))
    return b'transfer-encoding' in headers or length > MAX_BODY_BYTES


async def _refuse(send, status, reason):
    await send(dict(type='http.response.start', status=status, headers=[]))
    await send(dict(type='http.response.body', body=reason))
