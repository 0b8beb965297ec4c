"""What the official SDKs of Svix call, read from their own sources, and where they are installed."""

from __future__ import annotations

import ast
import importlib.util
import re
from pathlib import Path

ROOT = Path(__file__).parents[4]
HERE = Path(__file__).parent
VENV = ROOT / ".venv"
OLD_SDK = VENV / "svix1"
JS_SDK = VENV / "node" / "node_modules" / "svix" / "dist" / "index.mjs"


def new_sdk() -> Path:
    """The folder that the 2.x of the environment lies in."""
    spec = importlib.util.find_spec("svix")
    assert spec is not None and spec.origin is not None
    return Path(spec.origin).parents[1]


def operations_of_javascript() -> set[str]:
    """The same of the JavaScript SDK, from its one module."""
    source = JS_SDK.read_text()
    return {f"{method} {path}" for method, path in re.findall(r'SvixRequest\("(\w+)", "/api/v1([^"]*)"\)', source)}


def operations(sdk: Path) -> set[str]:
    """`GET /app/{app_id}` for each request that the Python SDK in that folder can make."""
    found = set()
    for module in (sdk / "svix" / "api").glob("*.py"):
        for call in ast.walk(ast.parse(module.read_text())):
            if isinstance(call, ast.Call) and getattr(call.func, "attr", "") == "_request_asyncio":
                named = {each.arg: ast.literal_eval(each.value) for each in call.keywords if each.arg in {"method", "path"}}
                found.add(f"{named['method'].upper()} {named['path'].removeprefix('/api/v1')}")
    return found
