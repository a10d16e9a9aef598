"""The compose files, parsed, with their `$$` made into `$` as compose does."""

import re
from pathlib import Path
from typing import Any

import yaml

from tests.docker.dockerfile import PROJECT


def read_compose(path: Path) -> dict[str, Any]:
    """The file's content, with every `$$` a `$`."""
    content: dict[str, Any] = _unescaped(yaml.safe_load(path.read_text()))
    return content


def _unescaped(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _unescaped(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_unescaped(item) for item in value]
    if isinstance(value, str):
        assert not re.search(r"(?<!\$)(\$\$)*\$(?!\$)", value), f"compose would put a variable into {value!r}"
        return value.replace("$$", "$")
    return value


def variables(service: dict[str, Any]) -> dict[str, str]:
    """A service's environment. Compose refuses true and false without quotes."""
    environment = service["environment"]
    assert not any(isinstance(value, bool) for value in environment.values())
    return {name: str(value) for name, value in environment.items()}


COMPOSE = read_compose(PROJECT / "docker-compose.yml")
S3 = read_compose(PROJECT / "docker-compose.s3.yml")
EXTERNAL = read_compose(PROJECT / "docker-compose.external.yml")
FILES = {"docker-compose.yml": COMPOSE, "docker-compose.external.yml": EXTERNAL}
