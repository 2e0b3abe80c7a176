"""Keep where downloaded shards go, for all code of this process that opens a path."""

from dataclasses import dataclass

DEFAULT_GIGABYTES = 10.0


@dataclass
class Settings:
    """Where downloaded shards are kept, and how many bytes of them."""

    folder: str = ""  # default: in the user's cache
    limit: float = DEFAULT_GIGABYTES * 1e9


settings = Settings()


def configure(folder: str, gigabytes: float) -> None:
    """Set the folder, "" for the user's cache, and its size for this process and those that it forks."""
    settings.folder, settings.limit = folder, gigabytes * 1e9
