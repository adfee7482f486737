"""Let the server answer only the addresses that the page uses."""

import re

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
    """ASGI middleware that answers 404 to addresses that the page does not use.

    Args:
        app (Callable): The ASGI application that answers the others.
    """

    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        """Answer 404, or let the application answer and add the content policy."""

        async def send_with_policy(message):
            if message['type'] == 'http.response.start':
                policy = (b'content-security-policy', CONTENT_POLICY.encode())
                message['headers'] = [*message.get('headers', ()), policy]
            await send(message)

        if scope['type'] != 'http':
            await self.app(scope, receive, send)
        elif NEEDED.fullmatch(scope['path'].rstrip('/') or '/'):
            await self.app(scope, receive, send_with_policy)
        else:
            await send(dict(type='http.response.start', status=404, headers=[]))
            await send(dict(type='http.response.body', body=b'not found'))
