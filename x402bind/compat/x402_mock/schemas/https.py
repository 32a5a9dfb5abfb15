"""Bodies of the permit-token flow as models, for code that reads them; our own bytes come from the core (``permit_token``)."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from x402bind.compat.x402_mock.adapters.unions import PaymentComponentTypes, PermitTypes

from .versions import ProtocolVersion

__all__ = [
    "ClientRequestHeader",
    "ClientTokenRequest",
    "Server402ResponsePayload",
    "ServerPaymentScheme",
    "ServerTokenResponse",
]


class ClientRequestHeader(BaseModel):
    """The one header that matters."""

    model_config = ConfigDict(populate_by_name=True)
    content_type: str = Field(default="application/json", alias="Content-Type")
    authorization: str | None = Field(default=None, alias="Authorization", repr=False)


class ServerPaymentScheme(BaseModel):
    """The ways to pay."""

    payment_components: list[PaymentComponentTypes]
    protocol_version: str


class Server402ResponsePayload(BaseModel):
    """A 402's body."""

    access_token_endpoint: str
    payment_scheme: ServerPaymentScheme
    payment_instruction: str | None = None


class ClientTokenRequest(BaseModel):
    """What is posted to the token endpoint."""

    version: ProtocolVersion
    permit: PermitTypes


class ServerTokenResponse(BaseModel):
    """What the token endpoint answers."""

    access_token: str = Field(repr=False)
    token_type: str = "Bearer"
    expires_in: int | None = Field(default=None, ge=0)
    metadata: dict[str, Any] = Field(default_factory=dict)
