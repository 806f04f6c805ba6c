"""One client's session: what it says is passed on to the server and back, or not, as the plan has it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable
from typing import Final

from tests.integration.cockroach_proxy.answers import Complaints
from tests.integration.cockroach_proxy.faults import Fault, Statement
from tests.integration.cockroach_proxy.wire import (
    REFUSED,
    Kind,
    Message,
    StartupCode,
    Status,
    query,
    read_message,
    read_startup,
    ready,
)

_RESET: Final = struct.pack("ii", 1, 0)
"""SO_LINGER: closing means a reset."""
_GONE: Final = (asyncio.IncompleteReadError, ConnectionError)


class Ended(Exception):
    """The session is over."""


class Stream:
    """One side of the conversation."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self._writer = writer

    async def send(self, raw: bytes) -> None:
        """Pass bytes on."""
        self._writer.write(raw)
        await self._writer.drain()

    async def until_gone(self) -> None:
        """Wait until the other side has closed the connection, whatever it says before."""
        with contextlib.suppress(ConnectionError):
            while await self.reader.read(65536):
                pass

    def close(self) -> None:
        """Close it in order."""
        self._writer.close()

    def reset(self) -> None:
        """Close it as a host does that knows nothing of the connection."""
        if self._writer.is_closing():
            return
        connection: socket.socket = self._writer.get_extra_info("socket")
        if connection.family != socket.AF_UNIX:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._writer.transport.abort()


class Conversation:
    """Between one client and the server. Faults befall the statements of the simple protocol; all else passes through."""

    def __init__(
        self,
        client: Stream,
        server: Stream,
        *,
        choose: Callable[[Statement], Fault | None],
        share: Callable[[], float],
        pause_s: float,
    ) -> None:
        """`pause_s`: how long what is slow or late takes."""
        self._client = client
        self._server = server
        self._choose = choose
        self._share = share
        self._pause_s = pause_s
        self._complaints = Complaints()
        self._status = b""
        """Empty while the server is busy."""
        self._kept: list[Message] | None = None
        """The server's messages while they are not passed on."""
        self._is_ready = asyncio.Event()

    async def run(self) -> None:
        """Talk until one side goes, or the plan ends it."""
        try:
            await self._start()
            async with asyncio.TaskGroup() as tasks:
                answers = tasks.create_task(self._pass_answers())
                tasks.create_task(self._pass_statements(answers))
        except* (Ended, *_GONE):
            pass
        finally:
            self._client.close()
            self._server.close()

    def reset(self) -> None:
        """End it without a word."""
        self._client.reset()
        self._server.close()

    async def _start(self) -> None:
        while True:
            code, raw = await read_startup(self._client.reader)
            if code not in (StartupCode.SSL, StartupCode.GSS_ENCRYPTION):
                break
            await self._client.send(REFUSED)
        if code == StartupCode.CANCEL:
            await self._server.send(raw)
            raise Ended
        fault = self._choose(Statement("", Status.IDLE, is_connect=True))
        if fault is not None:
            await self._spoil_connect(fault)
        await self._server.send(raw)

    async def _spoil_connect(self, fault: Fault) -> None:
        match fault:
            case Fault.SLOW:
                await asyncio.sleep(self._pause_s)
                return
            case Fault.DRAINED:
                await self._tell([self._complaints.not_accepting()])
            case Fault.STARTING:
                await self._tell([self._complaints.starting()])
            case Fault.SILENT_BEFORE:
                await self._client.until_gone()
            case _:
                self.reset()
        raise Ended

    # --- what passes ---------------------------------------------------------------------------------------------------

    async def _pass_answers(self) -> None:
        while True:
            message = await read_message(self._server.reader)
            if self._kept is None:
                await self._client.send(message.raw)
            else:
                self._kept.append(message)
            if message.kind == Kind.READY:
                self._status = message.body
                self._is_ready.set()

    async def _pass_statements(self, answers: asyncio.Task[None]) -> None:
        try:
            while True:
                message = await read_message(self._client.reader)
                if message.kind == Kind.QUERY and self._status:
                    await self._execute(message)
                else:
                    await self._pass(message)
        finally:
            answers.cancel()

    async def _pass(self, message: Message) -> None:
        self._status = b""
        await self._server.send(message.raw)

    async def _execute(self, message: Message) -> None:
        statement = Statement(message.body[:-1].decode(errors="replace"), self._status)
        fault = self._choose(statement)
        match fault:
            case None:
                await self._pass(message)
            case Fault.SLOW:
                await asyncio.sleep(self._pause_s)
                await self._pass(message)
            case Fault.RETRY | Fault.RETRY_AFTER_ROWS | Fault.AMBIGUOUS_DONE | Fault.AMBIGUOUS_UNDONE:
                await self._complain(statement, message, fault)
            case _:
                await self._end(message, fault)
                raise Ended

    # --- what goes wrong -----------------------------------------------------------------------------------------------

    async def _complain(self, statement: Statement, message: Message, fault: Fault) -> None:
        """Say that the statement failed. The session goes on."""
        answer: list[Message] = []
        match fault:
            case Fault.AMBIGUOUS_DONE:
                await self._ask(message)
            case Fault.RETRY_AFTER_ROWS:
                found = await self._ask(message)
                if any(each.kind == Kind.ERROR for each in found):  # a conflict of its own was faster
                    await self._tell(found)
                    return
                rows = [each for each in found if each.kind not in (Kind.COMPLETE, Kind.READY)]
                answer = rows[: 1 + int(len(rows) * self._share())]
        if statement.status == Status.IN_TRANSACTION:
            await self._abort(for_good=statement.is_commit)
        ambiguous = fault in (Fault.AMBIGUOUS_DONE, Fault.AMBIGUOUS_UNDONE)
        complaint = self._complaints.ambiguous() if ambiguous else self._complaints.retry()
        await self._tell([*answer, complaint, ready(self._status)])

    async def _end(self, message: Message, fault: Fault) -> None:
        """End the session, or what is left of it. What the server was not told to commit it rolls back."""
        match fault:
            case Fault.DRAINED:
                await self._tell([self._complaints.shutting_down()])
            case Fault.DRAINED_DONE:
                await self._ask(message)
                await self._tell([self._complaints.shutting_down()])
            case Fault.RESET_AFTER:
                await self._ask(message)
                self.reset()
            case Fault.RESET_LATE:
                self._client.reset()
                await asyncio.sleep(self._pause_s)
                await self._ask(message)
            case Fault.CUT_MIDWAY:
                whole = b"".join([each.raw for each in await self._ask(message)])
                await self._client.send(whole[: int(len(whole) * self._share())])
            case Fault.SILENT_BEFORE:
                await self._fall_silent()
            case Fault.SILENT_AFTER:
                await self._ask(message)
                await self._fall_silent()
            case _:
                self.reset()

    async def _fall_silent(self) -> None:
        """Neither side hears of the other any more: what the server holds for the client it holds until it loses patience."""
        self._kept = []
        was_in_transaction = self._status != Status.IDLE
        await self._client.until_gone()
        self._client.close()
        if was_in_transaction:
            await asyncio.Event().wait()  # until the server ends it, which ends the other task

    async def _abort(self, *, for_good: bool) -> None:
        """Spoil the server's transaction: it is over, or it takes nothing but a ROLLBACK."""
        if for_good:
            if self._status == Status.IN_TRANSACTION:
                await self._ask(query("ROLLBACK"))
        else:
            await self._ask(query("DO $$ BEGIN RAISE EXCEPTION 'restart' USING ERRCODE = '40001'; END $$"))

    async def _ask(self, message: Message) -> list[Message]:
        """Have the server execute it, and keep the answer from the client."""
        self._kept = []
        self._is_ready.clear()
        await self._server.send(message.raw)
        await self._is_ready.wait()
        kept, self._kept = self._kept, None
        return kept

    async def _tell(self, messages: list[Message]) -> None:
        await self._client.send(b"".join([each.raw for each in messages]))
