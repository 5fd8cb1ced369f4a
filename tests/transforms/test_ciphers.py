"""Ciphers: keys as bytes or from a function, ids of keys, and that no key is seen anywhere."""

from __future__ import annotations

import copy
import pickle
import textwrap
import traceback
from collections.abc import Callable
from typing import Any

import pytest

from flatstream import DecryptionError
from flatstream.transforms._parts import PartReader, PartWriter
from flatstream.transforms.ciphers import Aes256Gcm, ChaCha20Poly1305, Cipher, Secret
from support.errors import raised_by
from support.processes import run_python

KEY = b"key" + bytes(range(200, 229))
NEW_KEY = b"new" + bytes(range(100, 129))
STORE = {"2025": KEY, "2026": NEW_KEY}
EMPTY: dict[str, bytes] = {}

every_cipher = pytest.mark.parametrize("kind", [Aes256Gcm, ChaCha20Poly1305])


def key_of(key_id: str) -> bytes:
    """A function of a module, which pickles refer to by its name."""
    return STORE[key_id]


def stream_of(cipher: Cipher, messages: list[bytes]) -> list[bytes]:
    part = PartWriter(cipher, None)
    payloads = [part.head()]
    for message in messages:
        payloads.append(part.seal(memoryview(message)))
        part.accepted()
    return [*payloads, part.final()]


def messages_of(cipher: Cipher, payloads: list[bytes]) -> list[bytes]:
    reader = PartReader(cipher, True)
    found = [reader.open(memoryview(payload)) for payload in payloads]
    reader.end()
    return [message for message in found if message is not None]


def shown(error: BaseException) -> str:
    """Everything that a tool shows of an exception, with the variables of all functions."""
    return "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())


def shows(text: str, key: bytes) -> bool:
    forms = [repr(key)[2:-1], key.hex(), key.hex(" "), repr(list(key))[1:-1]]
    return any(form in text for form in forms)


# Keys


@every_cipher
@pytest.mark.parametrize("made", [bytes, bytearray, memoryview], ids=lambda made: made.__name__)
def test_key_may_be_any_bytes_and_is_copied(kind: type[Cipher], made: Callable[[bytes], Any]) -> None:
    given: Any = bytearray(KEY)
    cipher = kind(made(given))
    payloads = stream_of(cipher, [b"a"])
    given[:] = bytes(32)
    assert messages_of(kind(KEY), payloads) == messages_of(cipher, payloads) == [b"a"]


@every_cipher
@pytest.mark.parametrize(
    ("key", "kind_of_error", "message"),
    [
        (KEY[:31], ValueError, "key must have 32 bytes, got 31"),
        (KEY + b"x", ValueError, "key must have 32 bytes, got 33"),
        (KEY[:16], ValueError, "key must have 32 bytes, got 16"),
        (b"", ValueError, "key must have 32 bytes, got 0"),
        (KEY.hex(), TypeError, "key must be 32 bytes, or a function that returns them for a key id, got str"),
        (None, TypeError, "key must be 32 bytes, or a function that returns them for a key id, got NoneType"),
        (32, TypeError, "key must be 32 bytes, or a function that returns them for a key id, got int"),
        (list(KEY), TypeError, "key must be 32 bytes, or a function that returns them for a key id, got list"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_wrong_key_is_an_error_that_does_not_show_it(
    kind: type[Cipher], key: Any, kind_of_error: type[Exception], message: str
) -> None:
    held = Secret(key)
    del key
    error = raised_by(lambda: kind(held._value))
    assert (type(error), str(error)) == (kind_of_error, message)
    assert not shows(shown(error), KEY[:16])


@every_cipher
def test_function_gets_the_id_of_each_part(kind: type[Cipher]) -> None:
    asked = []

    def get(key_id: str) -> bytes:
        asked.append(key_id)
        return STORE[key_id]

    old = stream_of(kind(get, key_id="2025"), [b"old"])
    new = stream_of(kind(NEW_KEY, key_id="2026"), [b"new"])
    assert asked == ["2025"]
    # Whatever id its own is.
    for own in ("2025", "2026", "", "other"):
        assert messages_of(kind(get, key_id=own), old) == [b"old"]
        assert messages_of(kind(get, key_id=own), new) == [b"new"]
    assert asked == ["2025", *["2025", "2026"] * 4]


@every_cipher
@pytest.mark.parametrize(
    "store",
    [STORE.__getitem__, STORE.get, lambda key_id: (_ for _ in ()).throw(LookupError("x"))],
    ids=["[]", "get", "fn"],
)
def test_unknown_key_is_an_error_about_the_store_and_not_about_the_frame(
    kind: type[Cipher], store: Callable[[str], Any]
) -> None:
    wanted = "the function that has the keys has none with the id '2024'"
    error = raised_by(PartWriter(kind(store, key_id="2024"), None).head)
    assert (type(error), str(error), error.__context__) == (LookupError, wanted, None)
    payloads = stream_of(kind(KEY, key_id="2024"), [b"a"])
    reader = PartReader(kind(store), False)
    before = reader.state
    error = raised_by(reader.open, memoryview(payloads[0]))
    assert not isinstance(error, DecryptionError)
    assert (type(error), str(error), error.__context__) == (LookupError, wanted, None)
    assert reader.state is before
    assert not shows(shown(error), KEY)


@every_cipher
@pytest.mark.parametrize(("answer", "kind_of_error"), [(KEY[:31], ValueError), (KEY.hex(), TypeError), (7, TypeError)])
def test_wrong_answer_of_the_function_is_an_error_that_does_not_show_it(
    kind: type[Cipher], answer: Any, kind_of_error: type[Exception]
) -> None:
    held = Secret(answer)
    del answer
    error = raised_by(PartWriter(kind(lambda key_id: held._value, key_id="a"), None).head)
    assert type(error) is kind_of_error
    assert str(error).startswith("the key with the id 'a' must ")
    assert not shows(shown(error), KEY[:16])


def test_error_of_the_function_reaches_the_caller() -> None:
    class UnreachableError(OSError):
        pass

    def get(key_id: str) -> bytes:
        raise UnreachableError("the service is away")

    with pytest.raises(UnreachableError):
        PartWriter(Aes256Gcm(get), None).head()


# Ids and contexts


@pytest.mark.parametrize("key_id", ["", "2026-01", "Schlüssel 1", "x" * 255, "é" * 127])
def test_key_id_is_stored_and_read(key_id: str) -> None:
    cipher = Aes256Gcm(KEY, key_id=key_id)
    payloads = stream_of(cipher, [b"a"])
    assert key_id.encode() in payloads[0]
    assert messages_of(cipher, payloads) == [b"a"]
    with pytest.raises(DecryptionError):
        messages_of(Aes256Gcm(KEY, key_id=key_id[:-1] + "?"), payloads)


@pytest.mark.parametrize("key_id", ["x" * 256, "é" * 128, "a\nb", "\0", "\ud800"])
def test_key_id_that_cannot_be_stored_is_refused(key_id: str) -> None:
    with pytest.raises(ValueError, match="printable text of at most 255 bytes"):
        Aes256Gcm(KEY, key_id=key_id)


@pytest.mark.parametrize(("name", "value"), [("key_id", b"a"), ("key_id", None), ("context", "a"), ("context", None)])
def test_id_or_context_of_another_type_is_refused(name: str, value: Any) -> None:
    with pytest.raises(TypeError, match=f"{name} must be .*, got {type(value).__name__}"):
        Aes256Gcm(KEY, **{name: value})


def test_context_tells_streams_of_one_key_apart() -> None:
    payloads = stream_of(Aes256Gcm(KEY, context=b"host a"), [b"a"])
    assert not any(b"host a" in payload for payload in payloads)
    assert messages_of(Aes256Gcm(KEY, context=bytearray(b"host a")), payloads) == [b"a"]
    for other in (b"", b"host b", b"host a\0"):
        with pytest.raises(DecryptionError):
            messages_of(Aes256Gcm(KEY, context=other), payloads)


def test_cipher_without_an_algorithm_is_refused() -> None:
    with pytest.raises(TypeError, match="Cipher has no algorithm: use Aes256Gcm or ChaCha20Poly1305"):
        Cipher(KEY)


def test_attributes_say_what_the_cipher_is() -> None:
    cipher = ChaCha20Poly1305(KEY, key_id="a", context=b"b")
    assert (cipher.name, cipher.number, cipher.key_id, cipher.context) == ("chacha20-poly1305", 2, "a", b"b")
    assert (Aes256Gcm.name, Aes256Gcm.number) == ("aes-256-gcm", 1)
    with pytest.raises(AttributeError):
        cipher.key_id = "b"  # type: ignore[misc]


# What is seen of a key


@every_cipher
def test_key_is_in_no_repr(kind: type[Cipher]) -> None:
    cipher = kind(KEY, key_id="a")
    part = PartWriter(cipher, None)
    part.head()
    for value in (cipher, [cipher], kind(STORE.get), part, part._secret, cipher._key, PartReader(cipher, False).state):
        assert not shows(repr(value), KEY)
        assert not shows(repr(value), NEW_KEY)
    name = kind.__name__
    assert repr(cipher) == f"{name}(key_id='a')"
    assert repr(kind(key_of, context=b"c")) == f"{name}(key_of, key_id='', context=b'c')"
    assert repr(kind(STORE.get)) == f"{name}(dict.get, key_id='')"


@every_cipher
def test_cipher_with_a_key_is_not_pickled(kind: type[Cipher]) -> None:
    # `get` of a dict would bring the whole dict.
    for cipher in (kind(KEY), kind(STORE.get), kind(STORE.__getitem__)):
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            with pytest.raises(TypeError, match="holds a key and is not pickled"):
                pickle.dumps(cipher, protocol)
        assert copy.copy(cipher) is copy.deepcopy(cipher) is cipher


@every_cipher
def test_cipher_with_a_function_is_pickled_by_its_name(kind: type[Cipher]) -> None:
    pickled = pickle.dumps(kind(key_of, key_id="2026", context=b"c"))
    assert NEW_KEY not in pickled
    made = pickle.loads(pickled)
    assert (type(made), made.key_id, made.context) == (kind, "2026", b"c")
    assert messages_of(made, stream_of(kind(NEW_KEY, key_id="2026", context=b"c"), [b"a"])) == [b"a"]


def test_state_of_a_stream_is_not_pickled_or_copied() -> None:
    part = PartWriter(Aes256Gcm(key_of, key_id="2026"), None)
    part.head()
    for duplicate in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="its numbers would be used twice"):
            duplicate(part)
        with pytest.raises(TypeError, match="a secret is not pickled"):
            duplicate(part._secret)


# The package


def test_missing_package_is_named_when_a_cipher_is_made() -> None:
    code = textwrap.dedent("""
        import sys
        sys.modules["cryptography"] = None
        import flatstream
        assert flatstream.Aes256Gcm.name == "aes-256-gcm"
        try:
            flatstream.Aes256Gcm(bytes(32))
        except ImportError as error:
            print(error)
        else:
            raise AssertionError("it was made")
    """)
    wanted = "encrypted streams need the package cryptography: pip install 'flatstream[encryption]'"
    assert run_python(code).stdout.strip() == wanted


def test_package_is_not_imported_before_it_is_used() -> None:
    code = textwrap.dedent("""
        import sys
        import flatstream
        flatstream.EncryptedFramer
        print("cryptography" in sys.modules)
    """)
    assert run_python(code).stdout.strip() == "False"
