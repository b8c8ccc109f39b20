"""Judges every file of a folder as its client's reader would: YAML of compose and of Continue, JSON, TOML, Python, shells, .env.

Says the first faults of each file, and fails if there is any.
"""

import ast
import json
import os
import re
import subprocess
import sys

import yaml

PLAIN = re.compile(r"[A-Z_]+=[\w./:,=@+%\[\]-]*")
# Fields of @continuedev/config-yaml 1.42, and of what type.
MODEL = {"name": str, "provider": str, "model": str, "apiBase": str, "roles": list, "requestOptions": dict}
REQUEST = {"timeout": int, "caBundlePath": str, "headers": dict}


class Strict(yaml.SafeLoader):
    """A key twice is a mistake, not the last one."""


def pairs(loader, node):
    keys = [loader.construct_object(key) for key, _ in node.value]
    assert len(set(keys)) == len(keys), f"a key twice among {keys}"
    return loader.construct_mapping(node, deep=True)


Strict.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, pairs)


def stack(text):
    services = yaml.load(text, Strict)["services"]
    (name, service), = services.items()
    assert set(service) <= {"environment", "extra_hosts", "volumes"}, service
    variables = service["environment"]
    assert all(isinstance(value, str) for value in variables.values()), variables
    held = json.loads(variables["OLLAMA_API_CONFIGS" if name == "open-webui" else "CREDENTIALS_OVERWRITE_DATA"])
    key = held["0"]["key"] if name == "open-webui" else held["ollamaApi"]["apiKey"]
    url = variables["OLLAMA_BASE_URLS"] if name == "open-webui" else held["ollamaApi"]["baseUrl"]
    assert key.startswith(("sk-hg-", "${HERDGATE_KEY:?")) and url.startswith("http"), (key, url)
    assert ("host.docker.internal" in url) == ("extra_hosts" in service), service
    assert ("volumes" in service) == any(value == "/etc/ssl/herdgate-ca.pem" for value in variables.values())


def editor(text):
    file = yaml.load(text, Strict)
    assert set(file) == {"name", "version", "schema", "models"} and file["schema"] == "v1", file
    (model,) = file["models"]
    for fields, known in ((model, MODEL), (model["requestOptions"], REQUEST)):
        for name, value in fields.items():
            assert isinstance(value, known[name]), (name, value)
    assert model["requestOptions"]["headers"]["Authorization"].startswith(("Bearer sk-hg-", "Bearer ${{ secrets."))


def variables(text):
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert all(PLAIN.fullmatch(line) for line in lines), lines
    names = [line.split("=")[0] for line in lines]
    assert len(set(names)) == len(names) and {"OLLAMA_URL", "OLLAMA_BASE_URL", "OLLAMA_MODEL"} <= set(names), names


def shell(text):
    subprocess.run(["sh", "-n"], input=text.encode(), check=True)


READERS = {
    "override.yaml": stack, "config.yaml": editor, ".json": json.loads, ".py": ast.parse, ".env": variables, ".sh": shell,
}

faults = 0
for name in sorted(os.listdir(sys.argv[1])):
    with open(os.path.join(sys.argv[1], name), encoding="utf-8") as file:
        text = file.read()
    for end, reader in READERS.items():
        if name.endswith(end):
            try:
                reader(text)
            except Exception as fault:
                faults += 1
                print(f"{name}: {fault!r}\n{text}")
sys.exit(faults > 0)
