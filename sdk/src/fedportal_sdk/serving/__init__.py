"""Serve a model on the device, on 127.0.0.1, in the shapes of OpenAI's API; nothing leaves. See docs/serving.md."""

from fedportal_sdk.serving.limits import Limits
from fedportal_sdk.serving.serving import Serving
from fedportal_sdk.serving.sources import FileSource, Found, InstalledSource, Source, find

__all__ = ["FileSource", "Found", "InstalledSource", "Limits", "Serving", "Source", "find"]
