"""What a process says of its work, on standard error: lines for people, or a JSON object a line for machines."""

from __future__ import annotations

import json
import logging
import time
from enum import StrEnum

REQUESTS = "serving.doors.watch"  # tells each request, which is too much for people


class LogFormat(StrEnum):
    TEXT = "text"
    JSON = "json"


class _Json(logging.Formatter):
    """`facts` of a record are keys of their own."""

    def format(self, record: logging.LogRecord) -> str:
        when = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        said = {
            "time": f"{when}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "facts", {}),
        }
        if record.exc_info:
            said["exception"] = self.formatException(record.exc_info)
        return json.dumps(said, default=str)


def begin(form: LogFormat) -> None:
    """Of the whole process, once."""
    handler = logging.StreamHandler()
    handler.setFormatter(_Json() if form is LogFormat.JSON else logging.Formatter("%(asctime)s %(name)s: %(message)s"))
    logging.basicConfig(handlers=[handler])
    if form is LogFormat.JSON:
        logging.getLogger(REQUESTS).setLevel(logging.INFO)
