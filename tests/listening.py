"""Where processes listen, read from /proc: every TCP socket that waits for connections, by who has it open."""

import ipaddress
import os
import struct
from contextlib import suppress
from pathlib import Path

LISTENS = "0A"  # its state


def below(pid: int) -> list[int]:
    """A process and those that it has started, and they."""
    parents = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended meanwhile
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
    found = [pid]
    for one in found:  # grows meanwhile
        found += [child for child, parent in parents.items() if parent == one]
    return found


def listening(pids: list[int]) -> set[tuple[str, int]]:
    """Address and port of each."""
    held = set()
    for pid in pids:
        with suppress(OSError):
            for name in os.listdir(f"/proc/{pid}/fd"):
                with suppress(OSError):
                    held.add(os.readlink(f"/proc/{pid}/fd/{name}"))
    found = set()
    for name in ("tcp", "tcp6"):
        path = Path("/proc/net") / name
        for line in path.read_text().splitlines()[1:] if path.exists() else ():
            _, local, _, state, *_, inode = line.split()[:10]
            if state == LISTENS and f"socket:[{inode}]" in held:
                address, port = local.split(":")
                found.add((_address(address), int(port, 16)))
    return found


def on_loopback(address: str) -> bool:
    made = ipaddress.ip_address(address)
    return (made.ipv4_mapped or made if made.version == 6 else made).is_loopback


def _address(text: str) -> str:
    """Words of 32 bits, each in this machine's order."""
    words = [struct.pack("=I", int(text[at : at + 8], 16)) for at in range(0, len(text), 8)]
    return str(ipaddress.ip_address(b"".join(words)))
