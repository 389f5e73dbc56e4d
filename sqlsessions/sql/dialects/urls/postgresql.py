"""URLs of PostgreSQL, in libpq's words, for asyncpg and psycopg alike.

https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-PARAMKEYWORDS
"""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from sqlalchemy import URL

from ....errors import InvalidArgument
from .query import UrlOptions, check_certificates

MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
ATTRIBUTES = ("any", "read-write", "read-only", "primary", "standby", "prefer-standby")
TLS_VERSIONS = ("tlsv1", "tlsv1.1", "tlsv1.2", "tlsv1.3")

TCP_OPTIONS = ("keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count", "tcp_user_timeout")
"""Options of a TCP socket, which asyncpg has no words for."""

LIBPQ_ALONE: dict[str, tuple[str, ...]] = {
    "channel_binding": ("disable", "prefer"),
    "gssdelegation": ("0",),
    "gssencmode": ("disable", "prefer"),
    "hostaddr": (),
    "load_balance_hosts": ("disable",),
    "max_protocol_version": (),
    "min_protocol_version": (),
    "oauth_client_id": (),
    "oauth_client_secret": (),
    "oauth_issuer": (),
    "oauth_scope": (),
    "require_auth": (),
    "requirepeer": (),
    "scram_client_key": (),
    "scram_server_key": (),
    "sslcertmode": ("allow",),
    "sslcompression": ("0",),
    "sslcrldir": (),
    "sslkeylogfile": (),
    "sslsni": ("1",),
}
"""Options that asyncpg has nothing for, with the values that ask for no more than what it does."""

ASYNCPG_ALONE = {
    "command_timeout": "give the storage operation_timeout",
    "max_cached_statement_lifetime": "it is of postgresql+asyncpg alone, leave it out",
    "max_cacheable_statement_size": "it is of postgresql+asyncpg alone, leave it out",
}
"""Options that psycopg has nothing for, and what to write instead."""

NOT_HERE = {
    "ApplicationName": "write application_name",
    "autocommit": "leave it out: a storage begins and ends its own transactions",
    "binary_parameters": "leave it out",
    "charset": "leave it out: it is always UTF-8",
    "default_query_exec_mode": "write statement_cache_size=0 for no prepared statements",
    "loginTimeout": "write connect_timeout",
    "prepareThreshold": "write statement_cache_size=0 for no prepared statements",
    "replication": "leave it out",
    "search_path": "write schema=name, or options=-csearch_path=name,other",
    "server_settings": "write options=-cname=value",
    "socketTimeout": "give the storage operation_timeout",
    "socket_timeout": "give the storage operation_timeout",
    "sslaccept": "write sslmode=verify-full or sslmode=require",
    "sslfactory": "write sslmode and sslrootcert",
    "sslidentity": "write sslcert and sslkey",
    "statement_timeout": "write options=-cstatement_timeout=10s",
    "tcpKeepAlive": "write keepalives=1",
    "uselibpqcompat": "leave it out: sslmode means what it means to libpq",
}
"""Other libraries' words, and what to write instead."""


@dataclass(frozen=True)
class Connecting:
    """How to connect.

    Attributes:
        arguments: Of the driver's ``connect``.
        prepares: Whether the driver may prepare statements.
        tcp: Options of the socket that the driver does not set itself.
    """

    arguments: Mapping[str, Any]
    prepares: bool = True
    tcp: Mapping[str, int] | None = None


def connecting(url: URL) -> Connecting:
    """How the driver of a URL connects as its options say.

    Raises:
        InvalidArgument: If an option is unknown, has a value that it cannot have, or the driver has
            nothing for it; the message says what to write instead.
    """
    options = UrlOptions(url)
    options.refuse(NOT_HERE)
    hosts, ports = _addresses(url, options)
    tls = _tls(options)
    tcp = {name: value for name in TCP_OPTIONS if (value := options.integer(name)) is not None}
    caches = {
        name: options.integer(name) for name in ("statement_cache_size", "prepared_statement_cache_size")
    }
    # 0 says that a pooler is there, or something else that no prepared statement outlives.
    prepares = not options.boolean("pgbouncer") and 0 not in caches.values()
    threshold = _threshold(options)
    common: dict[str, Any] = {
        "user": options.text("user"),
        "password": options.text("password"),
        "passfile": options.file("passfile"),
        "service": options.text("service"),
        "target_session_attrs": options.choice(ATTRIBUTES, "target_session_attrs"),
        "krbsrvname": options.text("krbsrvname"),
        "gsslib": options.choice(("gssapi", "sspi"), "gsslib"),
    }
    options.choice(("utf8", "utf-8", "auto"), "client_encoding")  # as it is anyway
    database = options.text("dbname", "database")
    seconds = options.seconds("connect_timeout", "timeout")
    name = options.text("application_name") or options.text("fallback_application_name")
    settings = {"application_name": name, "options": options.text("options")}
    path = search_path(options)
    if url.get_driver_name() == "asyncpg":
        _refuse_libpqs(options)
        found = _asyncpgs_tls(tls) | common | {"host": hosts, "port": ports, "database": database}
        found |= {"timeout": seconds, "command_timeout": options.seconds("command_timeout")}
        for word in ("max_cached_statement_lifetime", "max_cacheable_statement_size"):
            found[word] = options.integer(word)
        if prepares:
            found |= caches
        found["server_settings"] = _given(settings | {"search_path": path})
        options.finish()
        return Connecting(_given(found), prepares and threshold != "none", tcp)
    options.refuse(ASYNCPG_ALONE)
    for name in LIBPQ_ALONE:
        common[name] = options.text(name)
    if any(caches.values()):
        raise InvalidArgument(
            "url: of statement_cache_size, postgresql+psycopg takes 0 alone; its own word is prepare_threshold"
        )
    if path is not None:
        escaped = path.replace("\\", "\\\\").replace(" ", "\\ ")
        settings["options"] = f"{settings['options'] or ''} -csearch_path={escaped}".strip()
    found = common | tls | tcp | settings | {"dbname": database}
    found |= {"host": ",".join(hosts), "port": ",".join(map(str, ports))}
    found["connect_timeout"] = seconds and max(1, round(seconds))
    found["prepare_threshold"] = threshold
    options.finish()
    _check_libpqs_words(_given(found))
    _check_key(tls.get("sslkey"))
    prepares = prepares and threshold != "none"
    return Connecting(_given(found) | ({} if prepares else {"prepare_threshold": None}), prepares)


def search_path(options: UrlOptions) -> str | None:
    """The search path of the schema that a URL names, quoted; None if it names none."""
    schema = options.text("schema", "currentSchema")
    return None if schema is None else '"' + schema.replace('"', '""') + '"'


def _given(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value not in (None, "", [], {})}


def _addresses(url: URL, options: UrlOptions) -> tuple[list[str], list[int]]:
    """The hosts, and a port for each; both empty if the URL names no host."""
    named = [part for value in options.texts("host") for part in value.split(",")]
    port = options.text("port")
    apart = port.split(",") if port else [str(url.port or 5432)]
    hosts: list[str] = []
    ports: list[str] = []
    for host in named or ([url.host] if url.host else []):
        # With a port of its own, unless this is a bare IPv6 address or the folder of a socket.
        match = re.fullmatch(r"(?:\[([^]]+)\]|([^:/]+))(?::([^:]+))?", host)
        hosts.append((match[1] or match[2]) if match else host)
        ports.append((match and match[3]) or apart[min(len(ports), len(apart) - 1)])
    if len(apart) > 1 and len(apart) != len(hosts):
        raise InvalidArgument("url must name one port, or one for each host")
    if not all(each.isascii() and each.isdigit() and 0 < int(each) < 65536 for each in ports):  # noqa: PLR2004
        raise InvalidArgument("url: port must be a whole number between 1 and 65535")
    return hosts, [int(each) for each in ports]


def _threshold(options: UrlOptions) -> int | str | None:
    """When psycopg prepares a statement, in its own word."""
    value = options.text("prepare_threshold")
    if value is None or value.lower() == "none":
        return value and "none"
    if not (value.isascii() and value.isdigit()):
        raise InvalidArgument("url: prepare_threshold must be a whole number or none")
    return int(value)


def _tls(options: UrlOptions) -> dict[str, str]:
    """What is asked of TLS, in libpq's words, its files checked."""
    # As libpq does, which takes JDBC's `ssl=true` for `sslmode=require`.
    words = {"true": "require", "1": "require", "false": "disable", "0": "disable"}
    short = options.choice((*words, *MODES), "ssl")
    mode = options.choice(MODES, "sslmode") or (words.get(short, short) if short else None)
    authority = options.file("sslrootcert", word="system")
    direct = "direct" if options.boolean("direct_tls") else None
    found = {
        "sslrootcert": authority,
        "sslcert": options.file("sslcert"),
        "sslkey": options.file("sslkey"),
        "sslpassword": options.text("sslpassword"),
        "sslcrl": options.file("sslcrl"),
        "ssl_min_protocol_version": options.choice(TLS_VERSIONS, "ssl_min_protocol_version"),
        "ssl_max_protocol_version": options.choice(TLS_VERSIONS, "ssl_max_protocol_version"),
        "sslnegotiation": options.choice(("postgres", "direct"), "sslnegotiation") or direct,
    }
    for name in ("ssl_min_protocol_version", "ssl_max_protocol_version"):
        if value := found[name]:
            found[name] = value.replace("tlsv", "TLSv")
    if authority == "system":
        mode = mode or "verify-full"
        if mode != "verify-full":
            raise InvalidArgument("url: sslrootcert=system needs sslmode=verify-full")
    elif mode in ("verify-ca", "verify-full") and authority is None and not _default("root.crt"):
        raise InvalidArgument(
            f"url: sslmode={mode} needs sslrootcert: the file of the authority that signed the server's "
            "certificate, or `system` with sslmode=verify-full"
        )
    if found["sslnegotiation"] == "direct" and mode not in MODES[3:]:
        raise InvalidArgument("url: sslnegotiation=direct needs sslmode=require, verify-ca or verify-full")
    if found["sslcert"] and not (found["sslkey"] or _default("postgresql.key")):
        raise InvalidArgument("url: sslcert needs sslkey, the file of its key")
    check_certificates(
        None if authority == "system" else authority, found["sslcert"], found["sslkey"], found["sslpassword"]
    )
    return _given(found | {"sslmode": mode})


def _default(name: str) -> bool:
    """Whether a file that libpq and asyncpg look for by themselves is there."""
    return (Path.home() / ".postgresql" / name).exists()


def _asyncpgs_tls(tls: Mapping[str, str]) -> dict[str, Any]:
    if tls.get("sslrootcert") == "system":
        context = ssl.create_default_context()
        if certificate := tls.get("sslcert"):
            context.load_cert_chain(certificate, tls.get("sslkey"), tls.get("sslpassword", ""))
        return {"ssl": context}
    # Only in a URL of its own does asyncpg take the files.
    return {"dsn": f"postgresql://?{urlencode(tls)}"} if tls else {}


def _refuse_libpqs(options: UrlOptions) -> None:
    for name, harmless in LIBPQ_ALONE.items():
        value = options.text(name)
        if value is not None and value.lower() not in harmless:
            raise InvalidArgument(
                f"url: the driver asyncpg cannot do what {name} asks for: leave it out, or write "
                "postgresql+psycopg://"
            )


def _check_libpqs_words(arguments: Mapping[str, Any]) -> None:
    psycopg = import_module("psycopg")
    words = {name: value for name, value in arguments.items() if name != "prepare_threshold"}
    try:
        psycopg.conninfo.make_conninfo("", **words)
    except psycopg.ProgrammingError as error:
        name = next((name for name in words if f'"{name}"' in str(error)), "an option")
        raise InvalidArgument(f"url: the libpq that psycopg uses here does not know {name}") from None


def _check_key(file: str | None) -> None:
    """Refuse a key that libpq refuses, for the sake of who may read it."""
    if file is None:
        return
    status = Path(file).stat()
    if status.st_mode & (0o037 if status.st_uid == 0 else 0o077):
        raise InvalidArgument("url: others may read the file of sslkey: run chmod 600 on it")


def names_of_arguments(driver: str) -> Collection[str]:
    """What the driver's ``connect`` takes, by way of SQLAlchemy."""
    if driver == "asyncpg":
        ours = ("async_creator_fn", "prepared_statement_cache_size", "prepared_statement_name_func")
        return {*signature(import_module(driver).connect).parameters, *ours}
    psycopg = import_module(driver)
    libpqs = (option.keyword.decode() for option in psycopg.pq.Conninfo.get_defaults())
    return {*signature(psycopg.AsyncConnection.connect).parameters, *libpqs}


def set_tcp_options(connection: Any, options: Mapping[str, int]) -> None:
    """Set what asyncpg has no words for on the socket of one of its connections, unless it is a Unix one."""
    if not options:
        return
    found = connection._transport.get_extra_info("socket")  # noqa: SLF001 (there is no other way)
    if found.family == getattr(socket, "AF_UNIX", None):
        return
    for name, value in options.items():
        level, option = _SOCKET_OPTIONS[name]
        if (number := getattr(socket, option, None)) is not None and (value or name == "keepalives"):
            found.setsockopt(level, number, value)


_SOCKET_OPTIONS = {
    "keepalives": (socket.SOL_SOCKET, "SO_KEEPALIVE"),
    "keepalives_idle": (socket.IPPROTO_TCP, "TCP_KEEPIDLE"),
    "keepalives_interval": (socket.IPPROTO_TCP, "TCP_KEEPINTVL"),
    "keepalives_count": (socket.IPPROTO_TCP, "TCP_KEEPCNT"),
    "tcp_user_timeout": (socket.IPPROTO_TCP, "TCP_USER_TIMEOUT"),
}
