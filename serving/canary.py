"""`python3 -m serving.canary HOST:PORT`: one image from each generator of a Triton server; exit code 1 if one fails.

The readiness probe of a deployment: Triton's own health answers stay good after a model's process has died. It goes
before users in a model's queue.
"""

from __future__ import annotations

import http.client
import sys

from serving.endpoint import Endpoint, EndpointError


def main(address: str) -> int:
    endpoint = Endpoint(address)
    try:
        for model in endpoint.generators():
            endpoint.canary(model.spec)
    except (OSError, http.client.HTTPException, EndpointError) as error:
        print(f"{address}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:8000"))
