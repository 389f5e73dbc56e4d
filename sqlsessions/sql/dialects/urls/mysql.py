"""URLs of MySQL and MariaDB, in the words of MySQL's client, for asyncmy and aiomysql alike.

https://dev.mysql.com/doc/refman/en/connection-options.html
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import URL

from ....errors import InvalidArgument
from .query import UrlOptions, check_certificates

DISABLED, PREFERRED, REQUIRED = "disabled", "preferred", "required"
VERIFY_CA, VERIFY_IDENTITY = "verify-ca", "verify-identity"
MODES = (DISABLED, PREFERRED, REQUIRED, VERIFY_CA, VERIFY_IDENTITY)

# libpq's words for the same, and those of other libraries.
SYNONYMS = {
    "disable": DISABLED,
    "prefer": PREFERRED,
    "allow": PREFERRED,
    "require": REQUIRED,
    "verify-full": VERIFY_IDENTITY,
    "true": REQUIRED,
    "1": REQUIRED,
    "false": DISABLED,
    "0": DISABLED,
    "skip-verify": REQUIRED,
    "strict": VERIFY_IDENTITY,
    "accept-invalid-certs": REQUIRED,
}

NOT_HERE = {
    "allowPublicKeyRetrieval": "leave it out",
    "auth_plugin": "give the storage engine_options={'connect_args': ...}",
    "autocommit": "leave it out: a storage begins and ends its own transactions",
    "characterEncoding": "leave it out: it is always utf8mb4",
    "client_flag": "leave it out",
    "collation": "leave it out: the tables have their own",
    "compress": "leave it out: the drivers do not compress",
    "conv": "leave it out",
    "cursorclass": "leave it out",
    "local_infile": "leave it out",
    "parseTime": "leave it out",
    "read_timeout": "give the storage operation_timeout",
    "requireSSL": "write ssl-mode=REQUIRED",
    "schema": "name the database after the host, as in mysql://user@host/name",
    "serverTimezone": "leave it out: no column has a time zone",
    "socket_timeout": "give the storage operation_timeout",
    "socketTimeout": "give the storage operation_timeout",
    "stmt_cache_size": "leave it out",
    "useSSL": "write ssl-mode=REQUIRED",
    "useUnicode": "leave it out: it is always utf8mb4",
    "verifyServerCertificate": "write ssl-mode=VERIFY_CA or ssl-mode=VERIFY_IDENTITY",
    "write_timeout": "give the storage operation_timeout",
}
"""Other libraries' words, and what to write instead."""


@dataclass(frozen=True)
class Connecting:
    """How to connect.

    Attributes:
        arguments: Of the driver's ``connect``.
        needs_tls: Whether a connection without TLS is refused; the drivers would take it.
    """

    arguments: Mapping[str, Any]
    needs_tls: bool = False


def connecting(url: URL) -> Connecting:
    """How the driver of a URL connects as its options say.

    Raises:
        InvalidArgument: If an option is unknown or has a value that it cannot have; the message says what
            to write instead.
    """
    options = UrlOptions(url)
    options.refuse(NOT_HERE)
    if "," in (url.host or ""):
        raise InvalidArgument("url names several hosts: name one, such as a proxy that knows the primary")
    context, needs_tls = _tls(options)
    if options.text("charset") not in (None, "utf8mb4", "utf8", "utf8mb3"):
        raise InvalidArgument("url: charset must be utf8mb4, which it is if you leave it out")
    if options.boolean("use_unicode") is False:
        raise InvalidArgument("url: use_unicode must be true, which it is if you leave it out")
    options.boolean("reconnect")  # a lost connection is always replaced
    password = options.text("password", "passwd") or (None if url.password is None else str(url.password))
    found = {
        "host": options.text("host"),
        "port": options.integer("port", least=1),
        "user": options.text("user"),
        # Both drivers encode it as Latin-1; servers expect UTF-8.
        "password": password and password.encode().decode("latin-1"),
        "db": options.text("database", "db"),
        "unix_socket": options.text("unix_socket", "socket"),
        "connect_timeout": options.seconds("connect_timeout", "connect-timeout"),
        "init_command": options.text("init_command", "init-command"),
        "sql_mode": options.text("sql_mode"),
        "program_name": options.text("program_name", "application_name"),
        "read_default_file": options.file("read_default_file"),
        "read_default_group": options.text("read_default_group"),
        "charset": "utf8mb4",
        "ssl": context,
    }
    options.finish()
    return Connecting({name: value for name, value in found.items() if value is not None}, needs_tls)


def _tls(options: UrlOptions) -> tuple[ssl.SSLContext | None, bool]:
    """The context of TLS connections, if any, and whether there must be one."""
    authority = options.file("ssl_ca", "ssl-ca", "sslca", "sslrootcert")
    folder = options.text("ssl_capath", "ssl-capath")
    certificate = options.file("ssl_cert", "ssl-cert", "sslcert")
    key = options.file("ssl_key", "ssl-key", "sslkey")
    ciphers = options.text("ssl_cipher", "ssl-cipher")
    mode = _mode(options, trusts=bool(authority or folder), uses=bool(certificate or ciphers))
    if certificate and not key:
        raise InvalidArgument("url: ssl_cert needs ssl_key, the file of its key")
    check_certificates(authority, certificate, key)
    if mode == DISABLED:
        return None, False
    try:
        context = ssl.create_default_context(cafile=authority, capath=folder)
        if ciphers:
            context.set_ciphers(ciphers)
    except (OSError, ValueError):
        raise InvalidArgument("url: ssl_cipher names no cipher, or ssl_capath no folder") from None
    context.check_hostname = mode == VERIFY_IDENTITY
    context.verify_mode = ssl.CERT_REQUIRED if mode in (VERIFY_CA, VERIFY_IDENTITY) else ssl.CERT_NONE
    if certificate:
        context.load_cert_chain(certificate, key)
    return context, mode != PREFERRED


def _mode(options: UrlOptions, *, trusts: bool, uses: bool) -> str:
    """How far TLS goes.

    Args:
        options: Of the URL.
        trusts: Whether the URL names an authority.
        uses: Whether it has something that TLS alone uses.
    """
    verified = options.flag_in_json("ssl", "rejectUnauthorized")
    names = ("ssl_mode", "ssl-mode", "sslmode", "sslMode", "ssl", "tls", "sslaccept")
    word = options.choice((*MODES, *SYNONYMS), *names)
    identity = options.boolean("ssl_check_hostname", "ssl_verify_identity")
    checked = options.boolean("ssl_verify_cert", "ssl-verify-server-cert")
    if verified is not None:
        return VERIFY_IDENTITY if verified else REQUIRED
    if word is not None:
        mode = SYNONYMS.get(word, word)
        # An authority that is named is asked.
        return VERIFY_CA if mode == REQUIRED and trusts and checked is not False else mode
    if not (trusts or checked or identity):
        return REQUIRED if uses else DISABLED
    if checked is False:
        return REQUIRED
    return VERIFY_CA if identity is False else VERIFY_IDENTITY
