"""Whether a file is still the one that was read before, without reading it where that can be known."""

import hashlib
import json
import os
import re
from collections.abc import Mapping
from typing import Any

from lmtrain.data.formats.stores import whole

# in the names that stores have for what changes with a file
_VERSION = re.compile(
    "etag|modif|mtime|write|updat|^created$|date|version|generation|^rev|oid|blob|md5|crc|sha|hash|digest|sum$"
)
_READ_BYTES = 4 << 20


def local_stamp(status: os.stat_result) -> str:
    """Of a file on this machine: size, modification time, change time and number (inode).

    The change time is set by the system at every change and cannot be set back, as `cp -p` and `touch -d` set back the
    modification time. Another file in its place has another number.
    """
    return f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns} {status.st_ino}"


def remote_stamp(filesystem, path: str, info: Mapping[str, Any]) -> str:
    """Of a file in a store: its size and all that the store says of its version; a hash of it if that is nothing.

    Args:
        filesystem: fsspec's.
        path: the file.
        info: what the file system says of it.
    """
    known = {str(key): str(value) for key, value in sorted(info.items()) if value and _VERSION.search(key.lower())}
    if known:
        return json.dumps([info.get("size"), known])
    digest = hashlib.sha256()
    with whole(filesystem, path, path) as stream:
        while data := stream.read(_READ_BYTES):
            digest.update(data)
    return digest.hexdigest()
