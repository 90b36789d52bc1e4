"""For programs that receive a portal's webhooks: `verify(secret, headers, body)` says whether a request is genuine.

news = webhooks.verify(secret, request.headers, request.body)
print(news["kind"], news["sentence"])
"""

from fedwire.webhooks import DELIVERY, SIGNATURE, TIMESTAMP, TOLERANCE_SECONDS, sign, verify

__all__ = ["DELIVERY", "SIGNATURE", "TIMESTAMP", "TOLERANCE_SECONDS", "sign", "verify"]
