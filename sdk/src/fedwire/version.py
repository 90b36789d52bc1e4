"""The version of the package and of the protocol it speaks."""

VERSION = "0.1.0"
PROTOCOL = 1
