"""A web application that asks no other machine for anything, and says in one line why it refuses."""

from support.command_line import UserError, describe_os_error

HEADERS = {  # even what a page's own scripts ask of other machines ends in the browser
    "content-security-policy": "default-src 'self' data: blob: 'unsafe-inline' 'unsafe-eval'; frame-ancestors 'self'",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


class NotReadyError(UserError):
    """What is asked for is still being made; the message says how far it is."""


class Headers:
    """Adds HEADERS to each answer of an ASGI application."""

    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        async def send_more(message):
            if message["type"] == "http.response.start":
                ours = ((name.encode(), text.encode()) for name, text in HEADERS.items())
                message["headers"] = [*message["headers"], *ours]
            await send(message)

        await self.app(scope, receive, send_more)


def web_application(hosts):
    """Return a FastAPI application; a UserError is answered with {"error": line}, status 400.

    An OSError is answered so with 503, and a NotReadyError with {"waiting": line}, 202: both are to be asked again.

    hosts: names that it answers to, ["*"] for all: a foreign page cannot reach it by a name of its own.
    """
    from fastapi import FastAPI  # comes with gradio, which only app.py needs
    from fastapi.responses import JSONResponse
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    server = FastAPI(openapi_url=None)
    server.add_middleware(Headers)
    server.add_middleware(TrustedHostMiddleware, allowed_hosts=hosts)
    server.exception_handler(NotReadyError)(lambda request, error: JSONResponse({"waiting": str(error)}, 202))
    server.exception_handler(UserError)(lambda request, error: JSONResponse({"error": str(error)}, 400))
    server.exception_handler(OSError)(lambda request, error: JSONResponse({"error": describe_os_error(error)}, 503))
    return server
