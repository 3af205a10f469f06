"""SHA-256 of short texts without OpenSSL, which `hashlib` loads: 3 ms of every worker's start. For files, use that."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hashlib import sha256
else:
    try:
        from _sha2 import sha256  # Python's own, from 3.12 on
    except ImportError:
        try:
            from _sha256 import sha256  # up to 3.11
        except ImportError:
            from hashlib import sha256

__all__ = ["sha256"]
