"""Hostile and odd tokens, each with the verdict that it must get (None: it is good). One row is one thought."""

from __future__ import annotations

import json
from dataclasses import dataclass

from .tokens import AUDIENCE, ISSUER, NOW, b64, by_hmac, claims, edwards, elliptic, public, rsa, secret, sign, signed_parts, token

HEADER = {"alg": "RS256", "kid": "r1"}
GOOD = claims()
WEAK = f'{{"iss":"{ISSUER}","aud":"{AUDIENCE}","exp":'


@dataclass(frozen=True)
class Case:
    name: str
    verdict: str | None
    token: str
    keys: object = None
    algorithms: tuple = ("RS256",)


def times():
    changed = [
        ("expired long ago", "expired", {"exp": NOW - 3600}),
        ("expired at the last second of the leeway", "expired", {"exp": NOW - 30}),
        ("within the leeway", None, {"exp": NOW - 29}),
        ("within the leeway by a fraction", None, {"exp": NOW - 29.999}),
        ("exp of zero", "expired", {"exp": 0}),
        ("exp before 1970", "expired", {"exp": -1}),
        ("exp as a float", None, {"exp": NOW + 300.5}),
        ("exp as an integral float", None, {"exp": float(NOW + 300)}),
        ("exp at the lifetime's end", None, {"exp": NOW - 10 + 86400}),
        ("exp beyond the lifetime", "lifetime_too_long", {"exp": NOW - 10 + 86401}),
        ("exp in a hundred years", "lifetime_too_long", {"exp": NOW + 100 * 365 * 86400}),
        ("exp in milliseconds", "lifetime_too_long", {"exp": (NOW + 300) * 1000}),
        ("exp of 2^53", "lifetime_too_long", {"exp": 2**53}),
        ("exp of 2^53 + 1", "bad_claim", {"exp": 2**53 + 1}),
        ("exp of 2^63", "bad_claim", {"exp": 2**63}),
        ("exp of a thousand digits", "bad_claim", {"exp": 10**1000}),
        ("exp as text", "bad_claim", {"exp": str(NOW + 300)}),
        ("exp as a date", "bad_claim", {"exp": "2030-01-01T00:00:00Z"}),
        ("exp true", "bad_claim", {"exp": True}),
        ("exp in a list", "bad_claim", {"exp": [NOW + 300]}),
        ("exp in an object", "bad_claim", {"exp": {"value": NOW + 300}}),
        ("no exp", "missing_claim", {"exp": None}),
        ("nbf a minute ahead", "not_yet_valid", {"nbf": NOW + 60}),
        ("nbf just beyond the leeway", "not_yet_valid", {"nbf": NOW + 31}),
        ("nbf at the leeway", None, {"nbf": NOW + 30}),
        ("nbf in the past", None, {"nbf": NOW - 60}),
        ("nbf as text", "bad_claim", {"nbf": "soon"}),
        ("nbf false", "bad_claim", {"nbf": False}),
        ("nbf huge", "bad_claim", {"nbf": 2**60}),
        ("nbf as a float", None, {"nbf": NOW - 0.5}),
        ("iat a minute ahead", "issued_in_future", {"iat": NOW + 60}),
        ("iat at the leeway", None, {"iat": NOW + 30}),
        ("iat beyond the leeway", "issued_in_future", {"iat": NOW + 31}),
        ("iat as text", "bad_claim", {"iat": "now"}),
        ("iat true", "bad_claim", {"iat": True}),
        ("iat huge", "bad_claim", {"iat": 1e300}),
        ("no iat", None, {"iat": None}),
        ("no iat and a long life", "lifetime_too_long", {"iat": None, "exp": NOW + 90000}),
        ("iat long ago and a long life", "lifetime_too_long", {"iat": NOW - 86400, "exp": NOW + 300}),
        ("iat negative", "lifetime_too_long", {"iat": -5}),
    ]
    for name, verdict, changes in changed:
        yield Case(name, verdict, token(**changes))
    literal = [
        ("exp NaN", "malformed", "NaN}"),
        ("exp Infinity", "malformed", "Infinity}"),
        ("exp -Infinity", "malformed", "-Infinity}"),
        ("exp 1e400", "bad_claim", "1e400}"),
        ("exp -1e400", "bad_claim", "-1e400}"),
        ("exp 1e308", "bad_claim", "1e308}"),
        ("exp null", "bad_claim", "null}"),
        ("exp in hexadecimal", "malformed", "0x71F5F000}"),
        ("exp with a leading zero", "malformed", f"0{NOW + 300}}}"),
        ("exp with a plus", "malformed", f"+{NOW + 300}}}"),
        ("exp with an exponent", None, f"{(NOW + 300) / 10**9}e9}}"),
        ("exp twice, the later one good", "malformed", f'1,"exp":{NOW + 300}}}'),
        ("exp twice, both good", "malformed", f'{NOW + 300},"exp":{NOW + 300}}}'),
        ("exp twice, once by an escape", "malformed", f'{NOW + 300},"\\u0065xp":{NOW + 900}}}'),
        ("exp of five thousand digits", "malformed", "9" * 5000 + "}"),
        ("a duplicate deep inside", "malformed", f'{NOW + 300},"a":{{"b":[{{"c":1,"c":2}}]}}}}'),
    ]
    for name, verdict, rest in literal:
        yield Case(name, verdict, sign(HEADER, WEAK + rest, rsa()))


def parties():
    changed = [
        ("another issuer", "wrong_issuer", {"iss": "https://evil.example"}),
        ("the issuer with a slash more", "wrong_issuer", {"iss": ISSUER + "/"}),
        ("the issuer in capitals", "wrong_issuer", {"iss": ISSUER.upper()}),
        ("the issuer with a port", "wrong_issuer", {"iss": ISSUER + ":443"}),
        ("the issuer with a space", "wrong_issuer", {"iss": ISSUER + " "}),
        ("the issuer with a NUL", "wrong_issuer", {"iss": ISSUER + "\0"}),
        ("the issuer in full-width letters", "wrong_issuer", {"iss": "https://ｉｄ.example"}),
        ("an issuer with the right one in front", "wrong_issuer", {"iss": ISSUER + ".evil.example"}),
        ("an empty issuer", "wrong_issuer", {"iss": ""}),
        ("the issuer in a list", "bad_claim", {"iss": [ISSUER]}),
        ("the issuer as a number", "bad_claim", {"iss": 7}),
        ("no issuer", "missing_claim", {"iss": None}),
        ("another audience", "wrong_audience", {"aud": "bank"}),
        ("an audience in capitals", "wrong_audience", {"aud": "SHOP"}),
        ("an empty audience", "wrong_audience", {"aud": ""}),
        ("an empty list of audiences", "wrong_audience", {"aud": []}),
        ("an audience that begins with ours", "wrong_audience", {"aud": "shop.evil"}),
        ("audiences without ours", "wrong_audience", {"aud": ["bank", "post"]}),
        ("audiences with ours", None, {"aud": ["bank", AUDIENCE]}),
        ("our audience in a list", None, {"aud": [AUDIENCE]}),
        ("audiences that are no texts", "bad_claim", {"aud": [AUDIENCE, 7]}),
        ("nested audiences", "bad_claim", {"aud": [[AUDIENCE]]}),
        ("the audience as an object", "bad_claim", {"aud": {AUDIENCE: True}}),
        ("the audience as a number", "bad_claim", {"aud": 7}),
        ("a thousand audiences", "bad_claim", {"aud": [AUDIENCE] * 1000}),
        ("no audience", "missing_claim", {"aud": None}),
        ("azp is ours", None, {"aud": ["bank", AUDIENCE], "azp": AUDIENCE}),
        ("azp is another's", "wrong_audience", {"aud": ["bank", AUDIENCE], "azp": "bank"}),
        ("azp is another's beside one audience", "wrong_audience", {"azp": "bank"}),
        ("azp in a list", "bad_claim", {"azp": [AUDIENCE]}),
        ("sub as a number", "bad_claim", {"sub": 7}),
        ("sub in a list", "bad_claim", {"sub": ["u1"]}),
        ("jti as a number", "bad_claim", {"jti": 7}),
        ("nonce as a list", "bad_claim", {"nonce": ["n"]}),
        ("at_hash as a number", "bad_claim", {"at_hash": 7}),
        ("no sub", None, {"sub": None}),
        ("a claim that nobody knows", None, {"https://x.example/roles": ["a", {"b": 1.5}]}),
        ("a claim that looks like a header", None, {"alg": "none", "jwk": {}}),
        ("a claim that looks like a class", None, {"__proto__": {"admin": True}, "__class__": "x"}),
        ("text in another script", None, {"name": "Ωμέγα 🜁"}),
    ]
    for name, verdict, changes in changed:
        yield Case(name, verdict, token(**changes))


def algorithms():
    pem = rsa().as_pem(private=False)
    spellings = ["none", "None", "NONE", "nOnE", "rs256", "RS256 ", " RS256", "RS256\0", "", "HS256\n", "dir", "RSA-OAEP", "ＲＳ256"]
    for name in spellings:
        head = b64(json.dumps({"alg": name, "kid": "r1"}))
        yield Case(f"alg {name!r} without a signature", "forbidden_algorithm", f"{head}.{b64(json.dumps(GOOD))}.")
        yield Case(f"alg {name!r} over a good signature", "forbidden_algorithm", signed_parts(head, b64(json.dumps(GOOD)), rsa(), "RS256"))
    hmac_by_key = by_hmac({"alg": "HS256", "kid": "r1"}, GOOD, rsa().as_bytes("DER", private=False))
    hmac_by_pem = by_hmac({"alg": "HS256", "kid": "r1"}, GOOD, pem)
    both = ("RS256", "HS256")
    yield Case("the public key as a secret", "forbidden_algorithm", hmac_by_key)
    yield Case("the public key as a secret, both allowed", "key_misuse", hmac_by_key, algorithms=both)
    yield Case("the PEM as a secret, both allowed", "key_misuse", hmac_by_pem, algorithms=both)
    yield Case("RS384 where RS256 is asked", "forbidden_algorithm", sign({"alg": "RS384", "kid": "r1"}, GOOD, rsa()))
    yield Case("PS256 where RS256 is asked", "forbidden_algorithm", sign({"alg": "PS256", "kid": "r1"}, GOOD, rsa()))
    yield Case("PS256 in place of RS256", "bad_signature", sign(HEADER, GOOD, rsa(), "PS256"))
    yield Case("HS256 under a secret", None, sign({"alg": "HS256", "kid": "s1"}, GOOD, secret()), public(secret()), ("HS256",))
    yield Case(
        "HS512 under a short secret",
        "key_misuse",
        sign({"alg": "HS512", "kid": "s2"}, GOOD, secret("s2", 256)),
        public(secret("s2", 256)),
        ("HS512",),
    )
    yield Case("ES256", None, sign({"alg": "ES256", "kid": "e1"}, GOOD, elliptic()), public(elliptic()), ("ES256",))
    yield Case(
        "ES256 on another curve", "key_misuse", sign({"alg": "ES384", "kid": "e1"}, GOOD, elliptic("P-384")), public(elliptic()), ("ES384",)
    )
    yield Case("EdDSA", None, sign({"alg": "EdDSA", "kid": "o1"}, GOOD, edwards()), public(edwards()), ("EdDSA",))
    yield Case("Ed25519 by its own name", None, sign({"alg": "Ed25519", "kid": "o1"}, GOOD, edwards()), public(edwards()), ("Ed25519",))
    yield Case("EdDSA with an RSA key", "key_misuse", sign({"alg": "EdDSA", "kid": "r1"}, GOOD, edwards()), algorithms=("EdDSA",))


def headers():
    asked = [
        ("jku", {"jku": "https://evil.example/keys"}),
        ("x5u", {"x5u": "https://evil.example/cert"}),
        ("x5c", {"x5c": ["MIIB"]}),
        ("jwk", {"jwk": rsa("r9").as_dict(private=False)}),
        ("crit unknown", {"crit": ["exp2"], "exp2": 1}),
        ("crit empty", {"crit": []}),
        ("crit no list", {"crit": "exp"}),
        ("crit b64", {"crit": ["b64"], "b64": False}),
        ("b64 false", {"b64": False}),
        ("b64 true", {"b64": True}),
        ("zip", {"zip": "DEF"}),
        ("enc", {"enc": "A128GCM"}),
        ("cty JWT", {"cty": "JWT"}),
        ("a logout token", {"typ": "logout+jwt"}),
        ("a DPoP proof", {"typ": "dpop+jwt"}),
        ("a security event", {"typ": "secevent+jwt"}),
        ("a client's own assertion", {"typ": "client-authentication+jwt"}),
        ("an empty typ", {"typ": ""}),
        ("JWE", {"typ": "JWE"}),
    ]
    for name, added in asked:
        yield Case(f"header {name}", "forbidden_header", token(added))
    signer = rsa("r9")
    yield Case("signed by the key that it brings", "forbidden_header", sign({**HEADER, "jwk": signer.as_dict(private=False)}, GOOD, signer))
    for typ in ("JWT", "jwt", "at+jwt", "AT+JWT", "application/at+jwt", "application/jwt"):
        yield Case(f"typ {typ}", None, token({"typ": typ}))
    yield Case("no typ", None, sign(HEADER, GOOD, rsa()))
    yield Case("a thumbprint of a certificate", None, token({"x5t": "abc", "x5t#S256": "def"}))
    yield Case("a header that nobody knows", None, token({"svt": "x"}))
    wrong = [
        ("no alg", {"kid": "r1"}),
        ("alg as a number", {"alg": 256}),
        ("alg null", {"alg": None}),
        ("alg in a list", {"alg": ["RS256"]}),
        ("kid as a number", {"alg": "RS256", "kid": 1}),
        ("kid as an object", {"alg": "RS256", "kid": {"r1": 1}}),
        ("typ as a number", {"alg": "RS256", "typ": 1}),
    ]
    for name, header in wrong:
        yield Case(name, "malformed", sign(header, GOOD, rsa(), "RS256"))
    texts = [
        ("alg twice", '{"alg":"none","alg":"RS256","kid":"r1"}'),
        ("kid twice", '{"alg":"RS256","kid":"r2","kid":"r1"}'),
        ("a header in a list", '[{"alg":"RS256"}]'),
        ("a header of text", '"RS256"'),
        ("a header of nothing", ""),
        ("a header with something behind", '{"alg":"RS256","kid":"r1"}{}'),
        ("a header with a comment", '{"alg":"RS256"/**/}'),
        ("a header with single quotes", "{'alg':'RS256'}"),
        ("a header with NaN", '{"alg":"RS256","kid":"r1","x":NaN}'),
        ("a header with half a pair", '{"alg":"RS256","kid":"r1","x":"\\ud800"}'),
        ("a header that is not UTF-8", b'{"alg":"RS256","kid":"r1","x":"\xff"}'),
        ("a header in UTF-16", '{"alg":"RS256","kid":"r1"}'.encode("utf-16")),
        ("a header with a byte order mark", b'\xef\xbb\xbf{"alg":"RS256","kid":"r1"}'),
        ("a deep header", '{"alg":"RS256","x":' + "[" * 5000 + "]" * 5000 + "}"),
    ]
    for name, text in texts:
        yield Case(name, "malformed", sign(text, GOOD, rsa(), "RS256"))


def payloads():
    texts = [
        ("claims in a list", "[]"),
        ("claims of text", '"iss"'),
        ("claims null", "null"),
        ("no claims", ""),
        ("claims with something behind", json.dumps(GOOD) + "x"),
        ("claims with a comma behind", json.dumps(GOOD)[:-1] + ",}"),
        ("claims twice", json.dumps(GOOD) * 2),
        ("claims that are not UTF-8", json.dumps(GOOD)[:-1].encode() + b',"n":"\xc3"}'),
        ("claims with half a pair", json.dumps(GOOD)[:-1] + ',"n":"\\udfff"}'),
        ("a name with half a pair", json.dumps(GOOD)[:-1] + ',"\\ud800":1}'),
        ("claims in UTF-16", json.dumps(GOOD).encode("utf-16")),
        ("claims with a byte order mark", b"\xef\xbb\xbf" + json.dumps(GOOD).encode()),
        ("claims with a raw line break in a text", json.dumps(GOOD)[:-1] + ',"n":"a\nb"}'),
        ("deep claims", json.dumps(GOOD)[:-1] + ',"n":' + "[" * 3000 + "]" * 3000 + "}"),
        ("deep objects", json.dumps(GOOD)[:-1] + ',"n":' + '{"a":' * 1500 + "1" + "}" * 1500 + "}"),
        ("NaN in a claim that nobody asks for", json.dumps(GOOD)[:-1] + ',"n":NaN}'),
        ("iss twice", json.dumps(GOOD)[:-1] + f',"iss":"{ISSUER}"}}'),
        ("a good claim twice by an escape", json.dumps(GOOD)[:-1] + ',"\\u0061ud":"bank"}'),
    ]
    for name, text in texts:
        yield Case(name, "malformed", sign(HEADER, text, rsa()))
    yield Case("spaces around the claims", None, sign(HEADER, f" \r\n{json.dumps(GOOD)}\t", rsa()))
    yield Case("a whole pair in escapes", None, sign(HEADER, json.dumps(GOOD)[:-1] + ',"n":"\\ud83d\\ude00"}', rsa()))
    yield Case("a number beyond everything in another claim", "bad_claim", sign(HEADER, json.dumps(GOOD)[:-1] + ',"n":1e999}', rsa()))


def forms():
    good = token()
    head, body, tail = good.split(".")
    broken = [
        ("nothing", ""),
        ("dots", ".."),
        ("one part", head),
        ("two parts", f"{head}.{body}"),
        ("four parts", good + "."),
        ("five parts", f"{good}.a.b"),
        ("padding in the header", f"{head}==.{body}.{tail}"),
        ("padding in the signature", f"{good}=="),
        ("a line break at the end", good + "\n"),
        ("a space in front", " " + good),
        ("a space inside", f"{head}.{body[:9]} {body[9:]}.{tail}"),
        ("a line break inside", f"{head}.{body[:9]}\n{body[9:]}.{tail}"),
        ("characters of the other alphabet", f"{head}.{body}.+/{tail[2:]}"),
        ("characters beyond ASCII", f"{head}.{body}.é{tail[1:]}"),
        ("half a pair", f"{head}.{body}.\ud800"),
        ("a length that no base64 has", f"{head}.{body}.{tail[:-1]}"),
        ("spare bits in the signature", f"{head}.{body}.{spare(tail)}"),
        ("spare bits in the claims", spare_body()),
        ("a NUL at the end", good + "\0"),
        ("the words of the header", "Bearer " + good),
        ("as JSON", json.dumps({"payload": body, "protected": head, "signature": tail})),
        ("no header", f".{body}.{tail}"),
    ]
    for name, text in broken:
        yield Case(name, "malformed", text)
    yield Case("no signature", "bad_signature", f"{head}.{body}.")
    yield Case("a signature of one byte", "bad_signature", f"{head}.{body}.AA")
    yield Case("a signature of zeros", "bad_signature", f"{head}.{body}.{b64(bytes(256))}")
    yield Case("a signature of another token", "bad_signature", f"{head}.{body}.{token(sub='u2').split('.')[2]}")
    yield Case("claims of another token", "bad_signature", f"{head}.{token(sub='u2').split('.')[1]}.{tail}")
    yield Case("no claims under the signature", "bad_signature", f"{head}..{tail}")
    yield Case("16 KiB and one byte", "too_large", good + "A" * (16 * 1024 + 1 - len(good)))
    yield Case("a megabyte of dots", "too_large", "." * 2**20)
    yield Case("16 KiB", "bad_signature", f"{head}.{body}.{b64(bytes((16 * 1024 - len(head) - len(body) - 2) // 4 * 3))}")
    yield Case(
        "an ES256 signature of zeros",
        "bad_signature",
        f"{b64(json.dumps({'alg': 'ES256', 'kid': 'e1'}))}.{body}.{b64(bytes(64))}",
        public(elliptic()),
        ("ES256",),
    )
    yield Case(
        "an ES256 signature in DER",
        "bad_signature",
        f"{b64(json.dumps({'alg': 'ES256', 'kid': 'e1'}))}.{body}.{b64(b'0' * 70)}",
        public(elliptic()),
        ("ES256",),
    )
    yield Case("expired and unsigned", "bad_signature", f"{head}.{token(exp=1).split('.')[1]}.{tail}")
    yield Case("good", None, good)


def spare(tail):
    """The same bytes, spelled with the bits set that base64 leaves over: 256 bytes leave four."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    return tail[:-1] + alphabet[alphabet.index(tail[-1]) + 1]


def spare_body():
    text = json.dumps(GOOD)
    text += " " * ((1 - len(text)) % 3)
    return signed_parts(b64(json.dumps(HEADER)), spare(b64(text)), rsa(), "RS256")


def keys():
    good = token()
    yield Case("an unknown key id", "unknown_key", token({"kid": "r2"}))
    yield Case("an empty key id", "unknown_key", token({"kid": ""}))
    yield Case("a key id as a path", "unknown_key", token({"kid": "../../dev/null"}))
    yield Case("a key id as SQL", "unknown_key", token({"kid": "r1' or '1'='1"}))
    yield Case("a key id in capitals", "unknown_key", token({"kid": "R1"}))
    yield Case("no keys at all", "unknown_key", good, {"keys": []})
    yield Case("another's key under the same id", "bad_signature", token(key=rsa("r9")))
    yield Case("a key for encryption", "key_misuse", good, public(rsa(), use="enc"))
    yield Case("a key for signatures", None, good, public(rsa(), use="sig"))
    yield Case("a key that may only encrypt", "key_misuse", good, public(rsa(), key_ops=["encrypt"]))
    yield Case("a key that may only sign", "key_misuse", good, public(rsa(), key_ops=["sign"]))
    yield Case("a key that may verify", None, good, public(rsa(), key_ops=["verify"]))
    yield Case("a key for another algorithm", "key_misuse", good, public(rsa(), alg="RS512"))
    yield Case("a key for this algorithm", None, good, public(rsa(), alg="RS256"))
    yield Case("a key of another kind", "key_misuse", good, public(elliptic("P-256", "r1")))
    yield Case("a short key", "key_misuse", token(key=rsa("r1", 1024)), public(rsa("r1", 1024)))
    yield Case("two keys of one id", None, good, {"keys": [*public(rsa("r9"), kid="r1")["keys"], *public(rsa())["keys"]]})
    yield Case("no key id", None, sign({"alg": "RS256"}, GOOD, rsa()))
    yield Case("no key id among many", None, sign({"alg": "RS256"}, GOOD, rsa()), public(elliptic(), edwards(), rsa("r9"), rsa()))
    yield Case(
        "a broken key beside the good one", None, good, {"keys": [{"kty": "RSA", "kid": "r1"}, {"kty": "new"}, {}, *public(rsa())["keys"]]}
    )
    yield Case(
        "a key without an id", None, good, {"keys": [{name: value for name, value in public(rsa())["keys"][0].items() if name != "kid"}]}
    )


def all_cases():
    for group in (times, parties, algorithms, headers, payloads, forms, keys):
        yield from group()
