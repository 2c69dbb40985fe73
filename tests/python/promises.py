"""How the client's steps are checked: what must hold, what must be refused and how, and the caller's token on each call."""

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

# How long one call may take, and how long an event may take from what happened to the subscriber, in seconds.
CALL = 20
ARRIVAL = 30


class Wrong(AssertionError):
    """Something that was promised did not hold."""


def check(holds, what):
    """Fails with `what` unless it holds."""
    if not holds:
        raise Wrong(what)


def equal(found, expected, what):
    """Fails unless both are the same, and says both."""
    check(found == expected, f"{what}: expected {expected!r}, found {found!r}")


class Bearer(
    grpc.UnaryUnaryClientInterceptor,
    grpc.UnaryStreamClientInterceptor,
    grpc.StreamUnaryClientInterceptor,
    grpc.StreamStreamClientInterceptor,
):
    """Puts the caller's token on each call, where there is one."""

    def __init__(self, token):
        self.metadata = [("authorization", f"Bearer {token}")] if token else []

    def _with(self, details):
        metadata = list(details.metadata or []) + self.metadata
        return details._replace(metadata=metadata)

    def intercept_unary_unary(self, continuation, details, request):
        return continuation(self._with(details), request)

    def intercept_unary_stream(self, continuation, details, request):
        return continuation(self._with(details), request)

    def intercept_stream_unary(self, continuation, details, requests):
        return continuation(self._with(details), requests)

    def intercept_stream_stream(self, continuation, details, requests):
        return continuation(self._with(details), requests)


def refused(call, code, reason):
    """Makes a call that must be refused, and gives the BadRequest's fields (path to description)."""
    try:
        call()
    except grpc.RpcError as error:
        equal(error.code(), code, f"the code of an error ({error.details()})")
        status = rpc_status.from_call(error)
        check(status is not None, f"an error carries google.rpc.Status: {error.details()}")
        info, fields = error_details_pb2.ErrorInfo(), {}
        for detail in status.details:
            if detail.Is(error_details_pb2.ErrorInfo.DESCRIPTOR):
                detail.Unpack(info)
            elif detail.Is(error_details_pb2.BadRequest.DESCRIPTOR):
                bad = error_details_pb2.BadRequest()
                detail.Unpack(bad)
                fields.update({field.field: field.description for field in bad.field_violations})
        equal((info.domain, info.reason), ("postern", reason), f"the ErrorInfo of {error.details()!r}")
        return fields
    raise Wrong(f"a call was not refused with {code} ({reason})")
