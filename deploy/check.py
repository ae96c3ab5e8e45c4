"""Looks over the deployment: what its files say, and that they agree with each other and with the project."""

import pathlib
import re
import sys

import yaml

ROOT = pathlib.Path(__file__).resolve().parent.parent
faults = []


def check(holds, what):
    if not holds:
        faults.append(what)


class Strict(yaml.SafeLoader):
    """Refuses a key that is there twice, which YAML readers else settle silently."""


def mapping(loader, node):
    keys = [loader.construct_object(key) for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
    twice = {str(key) for key in keys if keys.count(key) > 1}
    if twice:
        raise yaml.YAMLError(f"{node.start_mark}: twice: {', '.join(sorted(twice))}")
    loader.flatten_mapping(node)
    return {loader.construct_object(key, deep=True): loader.construct_object(value, deep=True) for key, value in node.value}


Strict.add_constructor("tag:yaml.org,2002:map", mapping)


def read(path):
    return (ROOT / path).read_text(encoding="utf-8")


def load(path):
    try:
        return yaml.load(read(path), Loader=Strict)
    except yaml.YAMLError as error:
        sys.exit(f"{path}: {error}")


def dockerfile():
    text = read("deploy/Dockerfile").replace("\\\n", " ")
    stages = {}
    stage = None
    for line in text.splitlines():
        word, _, rest = line.strip().partition(" ")
        if word == "FROM":
            image, _, stage = rest.partition(" AS ")
            tag = image.rpartition(":")[2] if ":" in image else ""
            check(re.match(r"v?\d+\.\d+", tag), f"Dockerfile: the base image {image} is not pinned to a version")
            stages[stage] = []
        elif stage:
            stages[stage].append((word, rest))
    toolchain = re.search(r'channel = "([\d.]+)"', read("rust-toolchain.toml")).group(1)
    check(f"FROM rust:{toolchain}-" in text, f"Dockerfile: the build is not made with Rust {toolchain}, as rust-toolchain.toml says")
    for name in ("gateway", "worker"):
        words = dict(stages.get(name, []))
        user = words.get("USER", "root")
        check(user.split(":")[0] not in ("root", "0"), f"Dockerfile: {name} runs as root")
        check(words.get("STOPSIGNAL") == "SIGTERM", f"Dockerfile: {name} is not stopped by SIGTERM")
        check("orchestrator" in words.get("HEALTHCHECK", ""), f"Dockerfile: {name} has no health check of its own")
        check(words.get("ENTRYPOINT", "").startswith("["), f"Dockerfile: {name}'s entry point is a shell, which takes its signals")
    secret = re.search(r"^\s*(ARG|ENV)\s.*(SECRET|PASSWORD|API_KEY|TOKEN)", text, re.M)
    check(not secret, "Dockerfile: a secret would stay in the image")
    ignored = read(".dockerignore").splitlines()
    check("*" in ignored and "**/.env*" in ignored, ".dockerignore: secrets could get into the build")
    taken = {line[1:].rstrip("/") for line in ignored if line.startswith("!")}
    members = re.search(r"members = \[(.*?)\]", read("Cargo.toml"), re.S).group(1)
    needed = {"Cargo.toml", "Cargo.lock"} | {m.split("/")[0] for m in re.findall(r'"(.*?)"', members)}
    check(needed <= taken, f".dockerignore: the build lacks {', '.join(sorted(needed - taken))}")


def compose():
    file = load("deploy/compose.yml")
    services = file["services"]
    missing = {"valkey", "gateway", "worker", "prometheus"} - set(services)
    if missing:
        return check(False, f"compose: there is no service {', '.join(sorted(missing))}")
    known = set(re.findall(r"^#? ?([A-Z_]+)=", read(".env.example"), re.M))
    for name in re.findall(r"(?<!\$)\$\{([A-Z_]+)", read("deploy/compose.yml")):
        check(name in known, f"compose: {name} is not in .env.example")
    stages = re.findall(r"^FROM .* AS (\w+)$", read("deploy/Dockerfile"), re.M)
    for name, service in services.items():
        check(service.get("read_only") is True, f"compose: {name} can write to its image")
        check(service.get("cap_drop") == ["ALL"], f"compose: {name} has capabilities")
        check("no-new-privileges:true" in service.get("security_opt", []), f"compose: {name} can gain privileges")
        check("mem_limit" in service and "pids_limit" in service, f"compose: {name} has no bounds")
        check(not service.get("privileged") and "network_mode" not in service, f"compose: {name} is not shut in")
        for other, how in service.get("depends_on", {}).items():
            check(other in services, f"compose: {name} depends on {other}, which is no service")
            check(how.get("condition") == "service_healthy", f"compose: {name} does not wait until {other} is well")
        for port in service.get("ports", []):
            check(port.startswith("127.0.0.1:"), f"compose: {name} is open to every network at {port}")
        for network in service.get("networks", []):
            check(network in file["networks"], f"compose: {name} is on {network}, which is no network")
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            check(source in file["volumes"] or (ROOT / "deploy" / source).is_dir(), f"compose: {name} mounts {source}, which is nowhere")
        build = service.get("build")
        if build:
            check(build["target"] in stages, f"compose: {name} is built from {build['target']}, which is no stage")
            check((ROOT / "deploy" / build["context"] / build["dockerfile"]).is_file(), f"compose: {name} has no Dockerfile")
        else:
            tag = service["image"].rpartition(":")[2]
            check(re.match(r"v?\d+\.\d+\.\d+", tag), f"compose: the image of {name} is not pinned to a version")
            check("healthcheck" in service, f"compose: {name} has no health check")
        for variable in service.get("environment", {}) or {}:
            ours = variable.startswith("ORCHESTRATOR_") or variable in ("REDIS_URL", "LOG_LEVEL", "LOG_FORMAT")
            check(not ours or variable in known, f"compose: {name} is given {variable}, which nobody reads")
    redis = " ".join(services["valkey"]["command"])
    for setting in ("--appendonly yes", "--maxmemory-policy noeviction", "--requirepass"):
        check(setting in redis, f"compose: Valkey lacks {setting}")
    check(services["worker"].get("deploy", {}).get("replicas", 1) >= 2, "compose: there are not two workers")
    check("ports" not in services["valkey"] and services["valkey"]["networks"] == ["data"], "compose: Valkey can be reached from outside")
    check(file["networks"]["data"].get("internal") is True, "compose: the network of Valkey is open")
    for job in load("deploy/prometheus/prometheus.yml")["scrape_configs"]:
        for host in (name for found in job["dns_sd_configs"] for name in found["names"]):
            networks = set(services.get(host, {}).get("networks", []))
            check(networks & set(services["prometheus"]["networks"]), f"compose: Prometheus reaches no {host}")


def alerts():
    severities = {}
    known = "".join(read(path) for path in ("orchestrator/src/gateway/metrics.rs", "orchestrator/src/gateway/metrics/namespace.rs", "worker/src/metrics.rs"))
    for group in load("deploy/prometheus/alerts.yml")["groups"]:
        for rule in group["rules"]:
            severities.setdefault(rule["alert"], []).append(rule["labels"]["severity"])
            check({"summary", "action"} <= set(rule["annotations"]), f"alerts.yml: {rule['alert']} does not say what to do")
            for name in re.findall(r"orchestrator_\w+", rule["expr"]):
                bare = re.sub(r"_(bucket|sum|count)$", "", name)
                check(f'"{bare}"' in known, f"alerts.yml: {rule['alert']} asks for {name}, which nobody tells")
    tests = read("deploy/prometheus/alerts.test.yml")
    for name, both in severities.items():
        check(both == ["warning", "critical"], f"alerts.yml: {name} has the severities {both}")
        check(f'alertname="{name}"' in tests, f"alerts.test.yml: {name} is not tested")


def workflow():
    file = load(".github/workflows/ci.yml")
    # YAML 1.1 reads the key `on` as true.
    check(True in file or "on" in file, "ci.yml: it is never run")
    check(file.get("permissions") == {"contents": "read"}, "ci.yml: it may do more than read")
    ran = []
    for name, job in file["jobs"].items():
        check("timeout-minutes" in job, f"ci.yml: {name} may run for hours")
        for step in job["steps"]:
            check(("run" in step) != ("uses" in step), f"ci.yml: a step of {name} does not do one thing")
            if "uses" in step:
                check(re.fullmatch(r"[\w.-]+/[\w.-]+@v\d+", step["uses"]), f"ci.yml: {step['uses']} is not pinned")
            else:
                ran.append(step["run"])
                check((ROOT / step["run"]).is_file(), f"ci.yml: {step['run']} is no script of the project")
    check({"scripts/check", "scripts/test"} <= set(ran), "ci.yml: it does not run what the project runs")


for part in (dockerfile, compose, alerts, workflow):
    part()
for fault in faults:
    print(fault)
sys.exit(1 if faults else 0)
