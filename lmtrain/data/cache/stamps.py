"""A file's stamp: changes whenever the file may have changed, and is found without reading the file where possible."""

import hashlib
import json
import os
import re
from collections.abc import Mapping
from typing import Any

from lmtrain.data.formats.stores import whole

# what stores call the properties that change with a file
_VERSION = re.compile(
    "etag|modif|mtime|write|updat|^created$|date|version|generation|^rev|oid|blob|md5|crc|sha|hash|digest|sum$"
)
_READ_BYTES = 4 << 20


def local_stamp(status: os.stat_result) -> str:
    """The stamp of a local file: size, modification time, change time and inode.

    `cp -p` and `touch -d` can set back the modification time, but not the change time, and another file in its place
    has another inode.
    """
    return f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns} {status.st_ino}"


def remote_stamp(filesystem, path: str, info: Mapping[str, Any]) -> str:
    """The stamp of a file in a store: its size and what `info` has about its version, or else a hash of its bytes.

    Args:
        filesystem, path: the file system of fsspec and the file's path there.
        info: `filesystem.info(path)`.
    """
    known = {str(key): str(value) for key, value in sorted(info.items()) if value and _VERSION.search(key.lower())}
    if known:
        return json.dumps([info.get("size"), known])
    digest = hashlib.sha256()
    with whole(filesystem, path, path) as stream:
        while data := stream.read(_READ_BYTES):
            digest.update(data)
    return digest.hexdigest()
