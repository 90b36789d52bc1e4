"""What both ends of fedportal must agree on.

The portal and the device SDK share this package and nothing else. It knows numpy, the standard library and
`cryptography`; it knows neither Django nor HTTP clients. A change here is a change of the protocol: raise
`fedwire.version.PROTOCOL` and write it down in `docs/protocol.md`.
"""
