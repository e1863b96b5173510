"""Mutations of valid files: what bit rot, dying writers, careless programs and hostile people make of them."""

import bz2
import gzip
import json
import re
from collections.abc import Callable
from random import Random
from zlib import error as zlib_error

__all__ = ["mutate"]

#: Numbers that break sizes, scales and loops.
NUMBERS = (
    *("0", "-1", "1", "2", "7", "999", "65535", "1000000", "2147483647", "2147483648", "-2147483648", "4294967296"),
    *("9223372036854775807", "9223372036854775808", "-9223372036854775808", "99999999999999999999", "1e30", "-1e30"),
    *("1e-300", "1e308", "1e400", "nan", "NaN", "inf", "-inf", "-0.0", "0.5", "1,5", "1.2.3", "0x10", "1D5"),
)
#: Texts that break paths, pages, shells, formats and readers.
TEXTS = (
    *("", " ", "a" * 70, "b" * 100_000, "../../../etc/passwd", "/etc/passwd", "..", ".", "a/b", "\\..\\x", "~root"),
    *("<script>alert(1)</script>", "$(touch CANARY)", "`touch CANARY`", "; touch CANARY", "| touch CANARY", "%s%n%x"),
    *(
        "{0.__class__}",
        "{stem:>1000000000}",
        "{{}}",
        "*",
        "**/*",
        "[a",
        "null",
        "true",
        "None",
        "\u202etxt",
        "é\U0001f4a5",
    ),
    *(
        "line\nfeed",
        "tab\tin",
        "quote'\"",
        "nul\0byte",
        "\x1b[31m",
        "CON",
        "file:///etc/passwd",
        "http://127.0.0.1:9/x",
    ),
    *(
        "!!python/object/apply:os.system ['touch CANARY']",
        "&a *a",
        "<<: *x",
        "RA---TAN-SIP",
        "DEC--ZPN",
        "nJy",
        "mJy/xyz",
    ),
)
#: A pickle that would run a command.
PICKLE = b"cos\nsystem\n(S'touch CANARY'\ntR."
_YAML = (
    (
        "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\n"
        "d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: &f [*e,*e,*e,*e,*e,*e,*e,*e,*e]\n"
        "g: &g [*f,*f,*f,*f,*f,*f,*f,*f,*f]\nh: [*g,*g,*g,*g,*g,*g,*g,*g,*g]\n"
    ),
    "!!python/object/apply:os.system ['touch CANARY']\n",
    "a: !!python/name:os.system\n",
    "&x [*x]\n",
    "&x {a: *x}\n",
    "bands: &x [r, *x]\n",
    "? [a, b]\n: c\n",
    "2001-13-45\n",
    "a: 2001-02-30\n",
    "1_000: 190:20:30\n",
    "[" * 5000,
    "{a: " * 2000,
    "a: 0" + "9" * 5000,
    "a: 1" + "0" * 5000 + "\n",
)
_XML = (
    (
        '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">'
        '<!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;&b;&b;"><!ENTITY d "&c;&c;&c;&c;&c;&c;&c;&c;&c;&c;">'
        '<!ENTITY e "&d;&d;&d;&d;&d;&d;&d;&d;&d;&d;"><!ENTITY f "&e;&e;&e;&e;&e;&e;&e;&e;&e;&e;">'
        '<!ENTITY g "&f;&f;&f;&f;&f;&f;&f;&f;&f;&f;"><!ENTITY h "&g;&g;&g;&g;&g;&g;&g;&g;&g;&g;">]>'
    ),
    '<!DOCTYPE x [<!ENTITY h SYSTEM "file:///etc/passwd">]>',
)
#: Keywords that sizes, types, scales and places hang on.
_KEYS = (
    *("SIMPLE", "XTENSION", "BITPIX", "NAXIS", "NAXIS1", "NAXIS2", "NAXIS3", "PCOUNT", "GCOUNT", "TFIELDS", "EXTEND"),
    *(
        "BSCALE",
        "BZERO",
        "BLANK",
        "THEAP",
        "TFORM1",
        "TFORM2",
        "TTYPE1",
        "TDIM1",
        "TNULL1",
        "TSCAL1",
        "TZERO1",
        "GROUPS",
    ),
    *(
        "ZIMAGE",
        "ZCMPTYPE",
        "ZBITPIX",
        "ZNAXIS",
        "ZNAXIS1",
        "ZNAXIS2",
        "ZTILE1",
        "ZTILE2",
        "ZVAL1",
        "ZNAME1",
        "ZQUANTIZ",
    ),
    *("ZSCALE", "ZZERO", "ZDITHER0", "ZBLANK", "EXTNAME", "EXTVER", "CHECKSUM", "DATASUM", "NEXTEND", "LONGSTRN"),
    *(
        "CTYPE1",
        "CTYPE2",
        "CRPIX1",
        "CRVAL1",
        "CRVAL2",
        "CD1_1",
        "CD1_2",
        "CD2_2",
        "CDELT1",
        "PC1_1",
        "CUNIT1",
        "LONPOLE",
    ),
    *(
        "A_ORDER",
        "A_0_2",
        "PV1_1",
        "PV2_1",
        "PV2_5",
        "WCSAXES",
        "EQUINOX",
        "RADESYS",
        "LATPOLE",
        "CPDIS1",
        "DP1",
        "INHERIT",
    ),
    *("FILTER", "EXPTIME", "GAIN", "EXPNUM", "DETECTOR", "CCDNUM", "MAGZPT", "SEEING", "BUNIT", "DATE-OBS", "CONTINUE"),
    *(
        "POLNAXIS",
        "POLDEG1",
        "POLZERO1",
        "POLSCAL1",
        "POLNAME1",
        "POLNGRP",
        "PSF_SAMP",
        "PSFAXIS1",
        "PSFAXIS2",
        "PSFAXIS3",
    ),
    *(
        "AR_HDU",
        "AR_NCAT",
        "AR_CATN",
        "AR_NAME",
        "PSF_ID",
        "PHOTOCALIB_ID",
        "ARCHIVE_ID_FILTER",
        "PHOTFLAM",
        "PHOTPLAM",
    ),
)
_FORMS = (
    "'1PE(9999999)'",
    "'999999999E'",
    "'1QJ'",
    "'0A'",
    "'1X'",
    "'1PX'",
    "'-1E'",
    "'E'",
    "'1Z'",
    "'P'",
    "'100000A'",
)


def mutate(name: str, content: bytes, random: Random) -> bytes:
    """Return a damaged copy of a file.

    Parameters
    ----------
    name : str
        Its name; the ending tells what it is.
    content : bytes
        What it holds.
    random : Random
        Draws the damage.

    Returns
    -------
    bytes
        Damaged once or several times.
    """
    for _ in range(random.choice((1, 1, 1, 2, 3, 6))):
        own = _own_mutators(name, content)
        chosen = random.choice(own) if own and random.random() < 0.7 else random.choice(_BYTES)
        content = chosen(content, random)
    return content


def _own_mutators(name: str, content: bytes) -> list[Callable[[bytes, Random], bytes]]:  # noqa: PLR0911
    if content.startswith((b"\x1f\x8b", b"BZh")):
        return [_packed(name)]
    if content.startswith((b"SIMPLE", b"XTENSION")):
        return [_cards, _cards, _cards, _cards, _pack, _pixels]
    if name.endswith(".json"):
        return [_json, _json, _text, _tokens]
    if name.endswith((".yaml", ".yml")):
        return [_text, _tokens, _tokens, _yaml]
    if name.endswith((".xml", ".vot")):
        return [_text, _tokens, _tokens, _xml]
    if name.endswith(".safetensors"):
        return [_safetensors]
    return [_text, _tokens] if name.endswith((".csv", ".ecsv", ".txt", ".jsonl", ".dat")) else []


def _flip(content: bytes, random: Random) -> bytes:
    changed = bytearray(content)
    for _ in range(random.choice((1, 1, 2, 8, 64))):
        if changed:
            changed[random.randrange(len(changed))] ^= 1 << random.randrange(8)
    return bytes(changed)


def _span(content: bytes, random: Random) -> tuple[int, int]:
    start = random.randrange(len(content) + 1)
    return start, min(len(content), start + random.choice((1, 4, 80, 512, 2880, 20_000)))


def _splice(content: bytes, random: Random) -> bytes:
    start, end = _span(content, random)
    piece = content[start:end]
    other = random.choice(
        (b"", piece * 2, bytes(len(piece)), b"\xff" * len(piece), random.randbytes(len(piece)), PICKLE)
    )
    return content[:start] + other + content[end:]


def _truncate(content: bytes, random: Random) -> bytes:
    return content[: random.randrange(len(content) + 1)]


def _whole(content: bytes, random: Random) -> bytes:
    junk = random.randbytes(random.choice((1, 100, 5000)))
    return random.choice(
        (b"", PICKLE, b"\0" * 2880, junk, content + junk, junk + content, content + content, content[::-1])
    )


_BYTES = (_flip, _flip, _splice, _splice, _truncate, _whole)


def _headers(content: bytes) -> list[int]:
    """Return the offsets of all cards of all headers."""
    places, at = [], 0
    while at < len(content) and content.startswith((b"SIMPLE", b"XTENSION"), at):
        while at < len(content):
            places.append(at)
            at += 80
            if content[at - 80 : at].rstrip() == b"END":
                break
        following = content.find(b"XTENSION=", at)
        if following < 0:
            break
        at = following
    return places


def _value(random: Random) -> str:
    text = random.choice(TEXTS).replace("\0", "?").replace("\n", " ").replace("'", "''")[:67]
    return random.choice(
        (random.choice(NUMBERS), random.choice(NUMBERS), f"'{text}'", random.choice(_FORMS), "T", "F", "", "'abc")
    )


def _cards(content: bytes, random: Random) -> bytes:
    """Change, duplicate, remove, swap or add cards."""
    places = _headers(content)
    if not places:
        return content
    at, other = random.choice(places), random.choice(places)
    card, kind = content[at : at + 80], random.randrange(8)
    if kind == 0:
        new = card
    elif kind == 1:
        new = content[other : other + 80]
    elif kind == 2:
        key = random.choice(_KEYS)[:8]
        new = f"{key:<8}= {_value(random):>20}".encode("latin-1", "replace")
    elif kind == 3:
        new = bytes(
            random.choice((b"\0" * 80, b"\xe9" * 80, b" " * 80, b"END", b"CONTINUE  'more'", b"HIERARCH a b = 1"))
        )
    else:
        wanted = [place for place in places if content[place : place + 8].rstrip().decode("latin-1") in _KEYS]
        at = random.choice(wanted or places) if random.random() < 0.7 else at
        new = content[at : at + 8] + f"= {_value(random):>20}".encode("latin-1", "replace")
    new = new[:80].ljust(80)
    if kind == 0 and random.random() < 0.5:
        # A card too many, and the block as long as before where there is room.
        end = content.find(b"END".ljust(80), at)
        room = content[end + 80 : end + 160].strip() == b"" and end > 0
        return (
            content[:at] + new + content[at:end] + content[end : end + 80] + content[end + 160 :] if room else content
        )
    return content[:at] + new + content[at + 80 :]


def _pixels(content: bytes, random: Random) -> bytes:
    """Put numbers that are none, infinite or huge into the data."""
    places = _headers(content)
    start = (places[-1] // 2880 + 1) * 2880 if places and random.random() < 0.5 else 0
    changed = bytearray(content)
    value = random.choice(
        (b"\x7f\xc0\0\0", b"\x7f\x80\0\0", b"\xff\x80\0\0", b"\x7f\x7f\xff\xff", b"\xff\xff\xff\xff", b"\0\0\0\1")
    )
    for _ in range(random.choice((1, 10, 200))):
        if len(changed) > start + 8:
            at = (random.randrange(start, len(changed) - 4) // 4) * 4
            changed[at : at + 4] = value
    return bytes(changed)


def _pack(content: bytes, random: Random) -> bytes:
    packer = random.choice((lambda text: gzip.compress(text, 1), bz2.compress))
    # Now and then a bomb: much that packs to nothing.
    return packer(content + bytes(random.choice((0, 0, 0, 2880, 50_000_000 if random.random() < 0.02 else 0))))


def _packed(name: str) -> Callable[[bytes, Random], bytes]:
    """Return what damages a packed file: its content, or the packing."""

    def change(content: bytes, random: Random) -> bytes:
        packer = gzip if content.startswith(b"\x1f\x8b") else bz2
        try:
            inner = packer.decompress(content)
        except (OSError, EOFError, ValueError, ArithmeticError):
            return random.choice(_BYTES)(content, random)
        except zlib_error:
            return content
        if random.random() < 0.1:
            return _whole(content, random)
        own = _own_mutators(name.removesuffix(".gz").removesuffix(".bz2"), inner)
        own = [one for one in own if one is not _pack] or list(_BYTES)
        return bytes(packer.compress(random.choice(own)(inner, random), 1))

    return change


def _text(content: bytes, random: Random) -> bytes:
    """Remove, duplicate, swap or add lines."""
    lines = content.split(b"\n")
    at, other = random.randrange(len(lines)), random.randrange(len(lines))
    kind = random.randrange(5)
    if kind == 0:
        del lines[at]
    elif kind == 1:
        lines.insert(other, lines[at])
    elif kind == 2:
        lines[at], lines[other] = lines[other], lines[at]
    elif kind == 3:
        lines.insert(at, random.choice(TEXTS).encode())
    else:
        lines[at] = b" " * random.randrange(9) + lines[at].lstrip()
    return b"\n".join(lines)


def _tokens(content: bytes, random: Random) -> bytes:
    """Put another number or text in the place of one."""
    found = list(re.finditer(rb"[-+\w.]+|\"[^\"]*\"|'[^']*'", content))
    if not found:
        return content
    one = random.choice(found)
    new = random.choice(
        (random.choice(NUMBERS), random.choice(NUMBERS), random.choice(TEXTS), "[]", "{}", "[1, 2]", "null")
    )
    if random.random() < 0.15:
        new = random.choice(found).group().decode("utf-8", "replace")
    quote = one.group()[:1] in b"\"'" and random.random() < 0.7
    text = (json.dumps(new) if quote else new).encode()
    return content[: one.start()] + text + content[one.end() :]


def _json(content: bytes, random: Random) -> bytes:
    """Change, remove or add one entry somewhere in a tree."""
    try:
        tree = json.loads(content)
    except (ValueError, RecursionError):
        return content
    node, parents = tree, []
    while isinstance(node, dict | list) and node and (not parents or random.random() < 0.8):
        key = random.choice(list(node)) if isinstance(node, dict) else random.randrange(len(node))
        parents.append((node, key))
        node = node[key]
    if not parents:
        return random.choice((b"[]", b"{}", b"null", b"1", b'"x"', b"[" * 3000, b"[" * 200_000))
    holder, key = parents[-1]
    number = json.loads(
        random.choice(("0", "-1", "1e30", "NaN", "Infinity", "1000000000", "9223372036854775808", "0.5"))
    )
    new = random.choice((number, number, random.choice(TEXTS), None, True, [], {}, [node], {"a": node}, [number] * 3))
    if random.random() < 0.2 and isinstance(holder, dict):
        del holder[key]
    elif random.random() < 0.1 and isinstance(holder, dict):
        holder[random.choice(TEXTS)] = new
    else:
        holder[key] = new
    return json.dumps(tree).encode()


def _yaml(content: bytes, random: Random) -> bytes:
    bomb = random.choice(_YAML).encode()
    return random.choice((bomb, content + b"\n" + bomb, bomb + content))


def _xml(content: bytes, random: Random) -> bytes:
    text = content.decode("utf-8", "replace")
    head, end, rest = text.partition("?>")
    if random.random() < 0.5:
        text = head + end + random.choice(_XML) + rest.replace("<TD>", "<TD>&h;", 1)
    else:
        stream = '<BINARY><STREAM href="file:///etc/passwd" encoding="base64"/></BINARY>'
        text = re.sub(r"<TABLEDATA>.*</TABLEDATA>", stream, text, flags=re.DOTALL)
    return text.encode()


def _safetensors(content: bytes, random: Random) -> bytes:
    """Change the header, and keep its length right or not."""
    size = int.from_bytes(content[:8], "little")
    if size > len(content):
        return content
    header = _json(content[8 : 8 + size], random)
    length = len(header) if random.random() < 0.8 else random.choice((0, 2**63, 2**64 - 1, 10**9, size + 1))
    return length.to_bytes(8, "little") + header + content[8 + size :]
