"""What of the standard library and of the packages is in the tree, by name."""

from __future__ import annotations

# Of the standard library: what only developers, desktops or other systems use.
STDLIB_LEFT_OUT = (
    "LICENSE.txt", "__phello__", "__pycache__", "_aix_support", "_bootsubprocess", "_osx_support",
    "_pydecimal", "antigravity", "aifc", "audioop", "cProfile", "cgi", "cgitb", "chunk", "config-",
    "crypt", "curses", "dbm", "dist-packages", "distutils", "doctest", "ensurepip", "idlelib",
    "imaplib", "imghdr", "lib-dynload", "lib2to3", "mailbox", "mailcap", "modulefinder",
    "msilib", "nntplib", "nturl2path", "pdb", "pipes", "poplib", "profile", "pstats", "pyclbr",
    "pydoc", "pydoc_data", "site-packages", "sitecustomize", "smtplib", "sndhdr", "sqlite3",
    "sunau", "tabnanny", "telnetlib", "test", "this", "tkinter", "turtle", "turtledemo", "unittest",
    "uu", "venv", "wave", "webbrowser", "xdrlib", "xmlrpc", "zipapp",
)  # fmt: skip

EXTENSIONS_LEFT_OUT = (
    "_codecs_", "_crypt", "_ctypes_test", "_curses", "_dbm", "_gdbm", "_lsprof", "_multibytecodec",
    "_sqlite3", "_test", "_tkinter", "_xx", "audioop", "nis", "ossaudiodev", "readline", "spwd",
    "xxlimited", "xxsubtype",
)  # fmt: skip

# podwire with the extras of its agent: the tree in the image and the one on the node are the same.
ROOT, EXTRAS = "podwire", ("agent", "cluster")
# Required for the demo and the tests alone: nothing of the product imports it.
PACKAGES_LEFT_OUT = ("pyroute2",)


def in_stdlib(name: str) -> bool:
    """Whether a top-level entry of the standard library's folder is wanted."""
    stem = name.removesuffix(".py")
    return stem not in STDLIB_LEFT_OUT and not name.startswith("config-")


def is_extension_wanted(name: str) -> bool:
    """name: of a file in lib-dynload."""
    return not name.startswith(EXTENSIONS_LEFT_OUT)
