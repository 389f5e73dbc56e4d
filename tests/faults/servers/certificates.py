"""Certificates for servers and clients, made by `openssl`."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from .process import program


@dataclass(frozen=True)
class Certificates:
    """Files in PEM.

    Attributes:
        authority: Of the authority that signed the others.
        stranger: Of another one.
        server: The server's, for 127.0.0.1 and localhost.
        server_key: Its key.
        client: Of the user ``secure``.
        client_key: Its key.
    """

    authority: Path
    stranger: Path
    server: Path
    server_key: Path
    client: Path
    client_key: Path


def certificates(folder: Path) -> Certificates:
    """Make certificates in a folder."""
    openssl = program("openssl", "openssl")

    def run(*arguments: str) -> None:
        subprocess.run([openssl, *arguments], cwd=folder, check=True, capture_output=True)

    new = ("-newkey", "rsa:2048", "-nodes", "-days", "30")
    for name in ("authority", "stranger"):
        run("req", "-x509", *new, "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.pem")
    for name, subject in (("server", "127.0.0.1"), ("client", "secure")):
        run("req", *new, "-subj", f"/CN={subject}", "-keyout", f"{name}.key", "-out", f"{name}.csr")
        (folder / "names").write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
        signing = ("-CA", "authority.pem", "-CAkey", "authority.key", "-CAcreateserial", "-days", "30")
        run("x509", "-req", "-in", f"{name}.csr", *signing, "-extfile", "names", "-out", f"{name}.pem")
        (folder / f"{name}.key").chmod(0o600)
    files = ("authority.pem", "stranger.pem", "server.pem", "server.key", "client.pem", "client.key")
    return Certificates(*(folder / name for name in files))
