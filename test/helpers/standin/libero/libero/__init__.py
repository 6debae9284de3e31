"""Where LIBERO's files are. As LIBERO does, it asks where its data shall lie when nobody has told it yet."""

import os
import pathlib

HOME = pathlib.Path(os.environ.get("LIBERO_CONFIG_PATH", "~/.libero")).expanduser()

if not (HOME / "config.yaml").exists():
    answer = input("Do you want to specify a custom path for the dataset folder? (Y/N): ")
    HOME.mkdir(parents=True, exist_ok=True)
    (HOME / "config.yaml").write_text("{}")


def get_libero_path(query_key: str) -> str:
    """The folder of `bddl_files` or `init_states`; as in LIBERO it warns on stdout."""
    print("[Warning]: datasets path does not exist!")
    path = HOME / query_key
    path.mkdir(exist_ok=True)
    return str(path)
