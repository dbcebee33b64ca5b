"""Unpacks the named folders and files of a wheel, each flushed to disk: unpack.py WHEEL TARGET PREFIX..."""

import os
import shutil
import sys
import zipfile

BLOCK_BYTES = 1 << 20

wheel, target, *prefixes = sys.argv[1:]
with zipfile.ZipFile(wheel) as archive:
    wanted = [m for m in archive.infolist() if m.filename.startswith(tuple(prefixes)) and not m.is_dir()]
    if not wanted:
        sys.exit(f"{wheel} holds none of {' '.join(prefixes)}")
    for member in wanted:
        path = os.path.join(target, member.filename)
        if not os.path.realpath(path).startswith(os.path.realpath(target) + os.sep):
            sys.exit(f"{wheel}: {member.filename} points outside")
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with archive.open(member) as source, open(path, "wb") as file:
            # Reading to the end also checks the member's CRC-32.
            shutil.copyfileobj(source, file, BLOCK_BYTES)
            file.flush()
            os.fsync(file.fileno())
        mode = member.external_attr >> 16 & 0o777
        os.chmod(path, mode or 0o644)
