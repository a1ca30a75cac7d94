"""The blind test of engine/rating.py over HTTP; the page that a rater sees is report/rating.html."""

import json

from support.command_line import UserError

MOST_BYTES = 2000  # of an answer


def add_rating(server, address, test, page):
    """Add the blind test to a web application.

    server: of web_application(). address: of the page and all below it. test: PreparedTest. page: path of its HTML.
    """
    from fastapi import Request  # comes with gradio, which only app.py needs
    from fastapi.responses import FileResponse, Response
    from starlette.concurrency import run_in_threadpool

    server.get(address)(lambda: FileResponse(page))
    server.post(f"{address}/begin")(lambda: test.get().begin())
    server.get(f"{address}/state/{{session}}")(lambda session: test.get().state(session))
    server.get(f"{address}/results/{{session}}")(lambda session: test.get().results(session))

    @server.get(f"{address}/picture/{{session}}/{{question}}")
    def picture(session, question):
        png = test.get().picture(session, question)
        return Response(png, media_type="image/png", headers={"cache-control": "no-store"})

    @server.post(f"{address}/answer")
    async def answer(request: Request):
        given = await read_answer(request)
        return await run_in_threadpool(test.get().answer, *given)


async def read_answer(request):
    """Return (session, question, score, milliseconds) of a request; the numbers are checked by BlindTest.answer()."""
    size, kind = (request.headers.get(name, "") for name in ("content-length", "content-type"))
    try:
        # of another type a foreign page could send it
        if not size.isdecimal() or int(size) > MOST_BYTES or kind != "application/json":
            raise ValueError
        content = json.loads(await request.body())
        session, question, *numbers = (content[name] for name in ("session", "question", "score", "milliseconds"))
        if not isinstance(session, str) or not isinstance(question, str):
            raise ValueError
    except (ValueError, LookupError, TypeError, RecursionError):
        raise UserError("no answer: JSON with session, question, score and milliseconds is asked for") from None
    return session, question, *numbers
