"""YAML files with the options of a command."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from yolotrt.errors import ConfigError


def read_config(path: Path) -> dict[str, Any]:
    """The keys and values of a YAML file; none for an empty one.

    Raises ConfigError for a file that cannot be read, or is no YAML mapping.
    """
    import yaml

    try:
        data = yaml.load(path.read_text(encoding="utf-8"), Loader=_loader())  # noqa: S506 (it is a safe one)
    except OSError as e:
        raise ConfigError(f"{path}: cannot read the configuration: {e.strerror or e}") from e
    except (yaml.YAMLError, ValueError) as e:  # ValueError: no text, the 45th of a month, or 0x without digits
        raise ConfigError(f"{path}: not valid YAML ({_without_content(e)})") from None
    if not isinstance(data, dict | None):
        raise ConfigError(f"{path}: not a mapping", got=type(data).__name__, expected="lines of KEY: VALUE")
    return dict(data or {})


def _loader() -> type:
    """PyYAML's safe loader; of a key that is there twice, it would take the last value without a word."""
    import yaml

    class Loader(yaml.SafeLoader):
        def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
            node = super().compose_mapping_node(anchor)
            found: set[tuple[str, str]] = set()
            for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
                if (key.tag, key.value) in found:
                    raise yaml.composer.ComposerError(None, None, "a key is there twice", key.start_mark)
                found.add((key.tag, key.value))
            return node

    return Loader


def _without_content(error: Exception) -> str:
    """What is wrong and where, without the lines of the file, which may hold a password."""
    mark = getattr(error, "problem_mark", None)
    is_value = isinstance(error, ValueError) and not isinstance(error, UnicodeDecodeError)
    what = getattr(error, "problem", None) or (
        "it holds a date or a number that there is not" if is_value else "it holds characters that no text has"
    )
    return f"line {mark.line + 1}: {what}" if mark is not None else what
