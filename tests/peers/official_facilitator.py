"""Run by the official SDK's own python: its facilitator object behind /verify, /settle and /supported until told to stop.

    official_facilitator.py PORT RPC_URL KEY [NETWORK] [--v1]    (``--v1``: its facilitator of x402 v1 alone)

The SDK has no facilitator server, so the HTTP around it is ours, as thin as can be; every exchange is printed as a JSON line.
"""

import argparse
import json
import sys

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from x402 import x402Facilitator
from x402.extensions.eip2612_gas_sponsoring import EIP2612_GAS_SPONSORING
from x402.extensions.erc20_approval_gas_sponsoring import Erc20ApprovalFacilitatorExtension
from x402.mechanisms.evm.exact import register_exact_evm_facilitator
from x402.mechanisms.evm.exact.v1.facilitator import ExactEvmSchemeV1
from x402.mechanisms.evm.signers import FacilitatorWeb3Signer
from x402.mechanisms.evm.upto.facilitator import UptoEvmScheme
from x402.schemas.helpers import parse_payment_payload, parse_payment_requirements


class Signer(FacilitatorWeb3Signer):
    """The SDK's signer, with the one method that its approval sponsoring asks for and it does not have."""

    def send_transactions(self, transactions):
        hashes = []
        for each in transactions:
            if isinstance(each, str):
                sent = "0x" + bytes(self._w3.eth.send_raw_transaction(each)).hex()
            else:
                sent = self.write_contract(each.address, each.abi, each.function, *each.args, data_suffix=each.data_suffix)
            self.wait_for_transaction_receipt(sent)
            hashes.append(sent)
        return hashes


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("rpc")
    parser.add_argument("key")
    parser.add_argument("network", nargs="?", default="eip155:84532")
    parser.add_argument("--v1", action="store_true")
    return parser.parse_args()


def facilitating(asked):
    """Register exact (both methods, v2 and every v1 name) and upto."""
    signer = Signer(asked.key, asked.rpc)
    facilitator = x402Facilitator()
    if asked.v1:
        return facilitator.register_v1(["base-sepolia"], ExactEvmSchemeV1(signer))
    register_exact_evm_facilitator(facilitator, signer, asked.network)  # registers v1 by register_v1
    facilitator.register([asked.network], UptoEvmScheme(signer))
    facilitator.register_extension(EIP2612_GAS_SPONSORING)
    facilitator.register_extension(Erc20ApprovalFacilitatorExtension(signer))
    return facilitator


def tell(path, status, request, answer):
    sys.stdout.write(json.dumps({"path": path, "status": status, "request": request, "answer": answer}) + "\n")
    sys.stdout.flush()


def application(facilitator):
    app = FastAPI()

    async def asked(request, do):
        body = await request.json()
        status = 200
        try:
            payload = parse_payment_payload(body["paymentPayload"])
            requirements = parse_payment_requirements(body["x402Version"], body["paymentRequirements"])
            answer = (await do(payload, requirements)).model_dump(by_alias=True, exclude_none=True)
        except Exception as error:  # noqa: BLE001 - whatever it raises is what is told
            status, answer = 500, {"error": f"{type(error).__name__}: {error}"}
        tell(request.url.path, status, body, answer)
        return JSONResponse(answer, status)

    @app.post("/verify")
    async def verify(request: Request):
        return await asked(request, facilitator.verify)

    @app.post("/settle")
    async def settle(request: Request):
        return await asked(request, facilitator.settle)

    @app.get("/supported")
    async def supported():
        answer = facilitator.get_supported().model_dump(by_alias=True, exclude_none=True)
        tell("/supported", 200, None, answer)
        return answer

    return app


if __name__ == "__main__":
    asked = arguments()
    uvicorn.run(application(facilitating(asked)), host="127.0.0.1", port=asked.port, log_level="info")
