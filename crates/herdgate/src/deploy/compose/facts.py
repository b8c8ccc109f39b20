"""Judges every *.yaml of a folder as a compose file.

By which keys herdgate's services have, and of what type, by what it promises of its stacks, by the schema of the Compose
Specification where its file is named, and by docker-compose itself where Debian's package is there. Says the first faults of each file, and fails if there is any.
"""

import json
import os
import sys

import yaml

TEXT, BOOL, INT, LIST, MAP = str, bool, int, list, dict
SERVICE = {
    "image": (TEXT,), "build": (TEXT, MAP), "command": (TEXT, LIST), "restart": (TEXT,), "ports": (LIST,), "expose": (LIST,),
    "environment": (LIST, MAP), "secrets": (LIST,), "volumes": (LIST,), "networks": (LIST, MAP), "extra_hosts": (LIST, MAP),
    "depends_on": (LIST, MAP), "read_only": (BOOL,), "cap_drop": (LIST,), "security_opt": (LIST,), "sysctls": (LIST, MAP),
    "healthcheck": (MAP,), "stop_grace_period": (TEXT,), "logging": (MAP,), "init": (BOOL,), "devices": (LIST,),
    "deploy": (MAP,), "profiles": (LIST,),
}
CHECK = {"test": (LIST,), "interval": (TEXT,), "timeout": (TEXT,), "retries": (INT,), "start_period": (TEXT,), "disable": (BOOL,)}
TOP = {"services", "networks", "volumes", "secrets"}


BASE = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Strict(BASE):
    """A key twice is a mistake, not the last one."""


def mapping(loader, node, deep=False):
    keys = [loader.construct_object(key, deep=True) for key, _ in node.value]
    for key in keys:
        if keys.count(key) > 1:
            raise yaml.constructor.ConstructorError(None, None, f"{key!r} twice", node.start_mark)
    return BASE.construct_mapping(loader, node, deep)


Strict.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, lambda loader, node: mapping(loader, node, True))


def typed(what, given, known):
    for key, value in given.items():
        if key not in known:
            yield f"{what}: unknown key {key}"
        elif not isinstance(value, known[key]) or (isinstance(value, bool) and BOOL not in known[key]):
            yield f"{what}.{key}: {value!r} has the wrong type"


def judge(text):
    asked = text.split("\n", 1)[0].removeprefix("# asked:").split()
    stack = yaml.load(text, Strict)
    yield from (f"unknown section {key}" for key in stack if key not in TOP)
    services = stack["services"]
    for name, service in services.items():
        yield from typed(name, service, SERVICE)
        yield from typed(f"{name}.healthcheck", service.get("healthcheck", {}), CHECK)
        yield from wholeness(name, service, stack)
        yield from promises(name, service, asked)
    used = {key for service in services.values() for key in service.get("networks", {})}
    yield from (f"network {name} is nobody's" for name in stack.get("networks", {}) if name not in used)
    sources = {v.split(":")[0] for service in services.values() for v in service.get("volumes", [])}
    yield from (f"volume {name} is nobody's" for name in stack.get("volumes", {}) if name not in sources)
    yield from whole_stack(services, stack, asked)


def wholeness(name, service, stack):
    """What a service names is there."""
    if ("image" in service) == ("build" in service):
        yield f"{name}: either an image or how to build it"
    for network in service.get("networks", {}):
        if network != "default" and network not in stack["networks"]:
            yield f"{name}: no network {network}"
    for volume in service.get("volumes", []):
        source, target = volume.split(":")[:2]
        if not source.startswith((".", "/")) and source not in stack["volumes"]:
            yield f"{name}: no volume {source}"
        if not target.startswith("/"):
            yield f"{name}: volume at {target}"
    for secret in service.get("secrets", []):
        source = secret["source"] if isinstance(secret, dict) else secret
        if source not in stack["secrets"]:
            yield f"{name}: no secret {source}"
    for other in service.get("depends_on", []):
        if other not in stack["services"] or "profiles" in stack["services"][other]:
            yield f"{name}: depends on {other}, which may not be there"
    for line in service.get("environment", []):
        if not isinstance(line, str) or not line.split("=")[0].isidentifier():
            yield f"{name}: variable {line!r}"


def promises(name, service, asked):
    """What no stack of herdgate's may have, and what each must have."""
    if name == "ollama" and "ports" in service:
        yield "Ollama is published"
    if "network_mode" in service or "privileged" in service:
        yield f"{name}: more of the machine than it needs"
    if "container_name" in service:
        yield f"{name}: a name that one stack alone can have"
    if "restart" not in service:
        yield f"{name}: it is not started again"
    if not service.get("logging", {}).get("options", {}).get("max-size"):
        yield f"{name}: logs without a bound"
    if name in ("herdgate", "ollama", "connect") and "healthcheck" not in service:
        yield f"{name}: no healthcheck"
    alone = name == "connect" or (name == "herdgate" and "--all-in-one" not in asked)
    if alone and not (service.get("read_only") is True and service.get("cap_drop") == ["ALL"]):
        yield f"{name}: its root is not read-only, or it has capabilities"
    has_gpu = "devices" in service or "deploy" in service
    where = "herdgate" if "--all-in-one" in asked else "ollama"
    wants = any(word in asked for word in ("--gpu=nvidia", "--gpu=amd"))
    if has_gpu != (wants and name == where):
        yield f"{name}: a card that nobody asked for, or none"
    if "--gpu=nvidia" in asked and has_gpu:
        device = service["deploy"]["resources"]["reservations"]["devices"][0]
        if device != {"driver": "nvidia", "capabilities": ["gpu"]}:
            yield f"{name}: {device}"
    secret = [line for line in service.get("environment", []) if line.startswith(("AUTH_TOKEN=", "HERDGATE_KEY="))]
    yield from (f"{name}: a secret in {line}" for line in secret if not line.split("=", 1)[1].startswith("${"))


def whole_stack(services, stack, asked):
    expected = set()
    if "--consumer" not in asked:
        expected.add("herdgate")
    if "--all-in-one" not in asked:
        expected.add("ollama")
    apps = {word.removeprefix("--") for word in asked} & {"open-webui", "n8n"}
    if "--consumer" in asked or apps:
        expected.add("connect")
    if set(services) != expected | apps:
        yield f"services {sorted(services)}"
    if "ollama" in services and "herdgate" in services and "profiles" not in services["ollama"]:
        if "ollama" not in services["herdgate"].get("depends_on", []):
            yield "the gate does not wait for Ollama"
    # Only the gate shares a network with Ollama, except where there is no gate.
    if "ollama" in services and "herdgate" in services:
        reach = set(services["ollama"]["networks"])
        for name, service in services.items():
            if name not in ("ollama", "herdgate") and reach & set(service["networks"]):
                yield f"{name} walks around the gate"
    if "--network=shared-network" in asked:
        shared = stack["networks"]["shared"]
        makes = "--provider" in asked and "--coolify" not in asked
        if shared != ({"name": "shared-network"} | ({} if makes else {"external": True})):
            yield f"shared network {shared}"
        if "ollama" in services and "shared" in services["ollama"]["networks"]:
            yield "Ollama is in the shared network"
    if "--coolify" in asked and "secrets" in stack:
        yield "Coolify has no files for secrets"
    key = services.get("herdgate", {}).get("environment", [])
    if "--coolify" in asked and "herdgate" in services and not any("${SERVICE_PASSWORD_64_HERDGATE" in line for line in key):
        yield "Coolify makes no key"


def by_compose(path, text):
    """As `docker-compose config` reads it, without a process for each."""
    from compose.config import config
    from compose.config.environment import Environment

    values = Environment({"HERDGATE_KEY": "k", "SERVICE_PASSWORD_64_HERDGATE": "p"})
    files = [config.ConfigFile(path, yaml.load(text, BASE))]
    config.load(config.ConfigDetails(os.path.dirname(path), files, values))


def by_schema(file):
    """What judges a text by the schema in this file."""
    from jsonschema import Draft202012Validator

    with open(file, encoding="utf-8") as text:
        schema = json.load(text)
    # Its whole vocabulary is that of this draft; a later one would be read as this one.
    assert schema["$schema"].endswith("/2020-12/schema"), schema["$schema"]
    validator = Draft202012Validator(schema)

    def judge(text):
        for error in validator.iter_errors(yaml.load(text, BASE)):
            yield f"schema: {'.'.join(map(str, error.absolute_path))}: {error.message[:300]}"

    # It must be able to say no.
    for wrong in ("services: {a: {image: b, colour: red}}", "services: {a: {ports: 7}}", "service: {}"):
        assert list(judge(wrong)), wrong
    return judge


# What was asked for, what is done to that stack then, and the fault that must be told.
WRONG = [
    ("--open-webui", lambda stack, all: all["ollama"].update(ports=["11434:11434"]), "Ollama is published"),
    ("--open-webui", lambda stack, all: all["connect"].update(networks=all["ollama"]["networks"]), "walks around the gate"),
    ("--open-webui", lambda stack, all: all["connect"].update(environment=["HERDGATE_KEY=abc"]), "a secret in"),
    ("--open-webui", lambda stack, all: all["ollama"].pop("restart"), "it is not started again"),
    ("--open-webui", lambda stack, all: all["ollama"].pop("logging"), "logs without a bound"),
    ("--open-webui", lambda stack, all: all["ollama"].update(devices=["/dev/kfd"]), "a card that nobody asked for, or none"),
    ("--gpu=amd", lambda stack, all: all["ollama"].pop("devices"), "a card that nobody asked for, or none"),
    ("--open-webui", lambda stack, all: all["ollama"].update(container_name="ollama"), "a name that one stack alone can have"),
    ("--open-webui", lambda stack, all: all["ollama"].update(network_mode="host"), "more of the machine than it needs"),
    ("--provider", lambda stack, all: all["herdgate"].pop("depends_on"), "the gate does not wait for Ollama"),
    ("--network=shared-network", lambda stack, all: stack["networks"].update(shared={"name": "other"}), "shared network"),
    (
        "--network=shared-network",
        lambda stack, all: all["ollama"].update(networks=["models", "shared"]),
        "Ollama is in the shared network",
    ),
    ("--coolify", lambda stack, all: all["herdgate"].update(environment=[]), "Coolify makes no key"),
]


def says_no(texts):
    """It must be able to: each fault is told of a stack that has it."""
    for words, spoil, fault in WRONG:
        text = next(text for text in texts if text.startswith(f"# asked: {words}\n") and "  ollama:\n    image" in text and "profiles:" not in text)
        stack = yaml.load(text, Strict)
        spoil(stack, stack["services"])
        told = list(judge(f"# asked: {words}\n{yaml.safe_dump(stack)}"))
        assert any(fault in one for one in told), (words, fault, told)


def main(folder, schema=None):
    names = sorted(name for name in os.listdir(folder) if name.endswith(".yaml"))
    try:
        import compose.config  # noqa: F401
    except ImportError:
        print("LEFT OUT: docker-compose is not there to read them", file=sys.stderr)
        has_compose = False
    else:
        has_compose = True
    if not has_compose and os.environ.get("HERDGATE_TEST_REQUIRE") == "1":
        sys.exit("there is no docker-compose")
    faults, read, texts = 0, set(), []
    fits = by_schema(schema) if schema else lambda text: ()
    for name in names:
        path = os.path.join(folder, name)
        with open(path, encoding="utf-8") as file:
            text = file.read()
        texts.append(text)
        found = list(judge(text))
        # What options and settings left as it was is read once.
        said = "\n".join(line for line in text.split("\n") if not line.lstrip().startswith("#"))
        if not found and said not in read:
            read.add(said)
            found.extend(fits(text))
            try:
                if has_compose:
                    by_compose(path, text)
            except Exception as error:  # whatever it is, the file is not taken
                found.append(f"docker-compose: {getattr(error, 'msg', error)}")
        if found:
            faults += 1
            print(text.split("\n", 1)[0], *found[:5], sep="\n  ")
            if faults == 1:
                print(text)
        if faults > 5:
            break
    if not names or faults:
        sys.exit(f"{faults} of {len(names)} files at fault")
    says_no(texts)
    print(f"{len(names)} files")


if __name__ == "__main__":
    main(*sys.argv[1:])
