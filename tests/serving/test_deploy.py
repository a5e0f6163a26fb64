"""The deployment files: a tag without known holes, an image without weights whose command works, a closed server."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatch
from importlib.metadata import distribution, requires
from pathlib import Path
from textwrap import indent
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml
from packaging.requirements import Requirement
from typer.testing import CliRunner

from export.floors import CONTAINER_FLOOR
from genzoo import cli
from serving.endpoint import RESTRICTED, SECRET_HEADER

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "serving" / "deploy"


def test_every_tag_of_triton_is_at_or_above_the_security_floor() -> None:
    texts = [path.read_text() for path in DEPLOY.rglob("*") if path.is_file()]
    tags = [tag for text in texts for tag in re.findall(r"tritonserver:(\d\d\.\d\d)", text)]
    assert tags
    assert min(tags) >= CONTAINER_FLOOR


def test_serve_says_that_the_embedded_server_is_for_this_machine_only() -> None:
    command = [sys.executable, "-m", "genzoo", "serve", "--help"]
    text = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert f"older than what is safe on a network ({CONTAINER_FLOOR}" in " ".join(text.replace("│", "").split())


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What an engine would send to the build, which is what COPY copies."""
    folder = tmp_path_factory.mktemp("context")
    listed = subprocess.run(("git", "ls-files", "-z"), cwd=ROOT, capture_output=True, check=True).stdout.decode()
    for name in filter(None, listed.split("\0")):
        if not ignored(name) and (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    return folder


def ignored(name: str) -> bool:
    """By the last pattern of .dockerignore that matches the file or a folder above it."""
    found, parts = False, name.split("/")
    above = ["/".join(parts[:count]) for count in range(1, len(parts) + 1)]
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        pattern = line.removeprefix("!").rstrip("/")
        # A star stops at a slash there, not in fnmatch: both must have as many, but for **.
        deep = pattern.startswith("**/")
        candidates = [p for p in above if deep or p.count("/") == pattern.count("/")]
        folders_only = line.endswith("/")
        candidates = [p for p in candidates if not (folders_only and p == name)]
        if line and not line.startswith("#") and any(fnmatch("/" + p if deep else p, pattern) for p in candidates):
            found = not line.startswith("!")
    return found


def test_the_image_carries_the_packages_and_no_weights(context: Path) -> None:
    files = [path for path in context.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 4_500_000
    assert not [path for path in files if path.suffix == ".safetensors"]
    packages = {path.parent.name for path in context.glob("*/__init__.py")}
    assert packages == {"genzoo", "zoo", "export", "serving", "benchmarks"}


def test_the_image_s_command_works_with_what_it_installs(context: Path, tmp_path: Path) -> None:
    """The RUN step with the project's own dependencies, taken from here, and nothing else that is installed here."""
    run = re.search(
        r'^RUN (python3 -m pip install .*?) "/src\[serving,cpu,signing\]" ',
        (DEPLOY / "Dockerfile").read_text(),
        re.MULTILINE,
    )
    assert run
    assert "--no-deps" not in run[1]
    offline = ["--no-deps", "--no-build-isolation", "--quiet", "--target", str(tmp_path / "site")]
    subprocess.run([sys.executable, *run[1].split()[1:], *offline, str(context)], check=True, capture_output=True)
    for name in needed("genzoo"):
        for top in {Path(str(file)).parts[0] for file in distribution(name).files or () if ".." not in str(file)}:
            if not (link := tmp_path / "site" / top).exists():
                link.symlink_to(distribution(name).locate_file(top))
    bare = {name: value for name, value in os.environ.items() if not name.startswith("GENZOO")}
    bare |= {"PYTHONPATH": str(tmp_path / "site"), "HOME": str(tmp_path)}

    def python(*words: str) -> str:  # -S: without this environment's packages
        command = [sys.executable, "-S", *words]
        return subprocess.run(command, cwd=tmp_path, env=bare, capture_output=True, text=True, check=True).stdout

    assert python(str(tmp_path / "site/bin/genzoo"), "--version").startswith("genzoo ")
    assert json.loads(python(str(tmp_path / "site/bin/genzoo"), "list", "--json"))
    python("-c", "import export.runners, serving.canary, serving.entrypoint, serving.interface, zoo.contract.generator")


def needed(name: str) -> set[str]:
    """A distribution's dependencies and theirs, without extras."""
    wanted = [Requirement(text) for text in requires(name) or ()]
    found = {one.name for one in wanted if one.marker is None or one.marker.evaluate({"extra": ""})}
    return found.union(*map(needed, found))


def test_a_deployment_is_closed_by_a_secret_that_nobody_has(tmp_path: Path) -> None:
    recorder = tmp_path / "tritonserver"
    recorder.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\nexit 7\n')
    recorder.chmod(0o755)
    secrets = set()
    for _ in range(2):
        command = [sys.executable, "-m", "serving.entrypoint", "--model-repository=/models"]
        environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
        assert done.returncode == 7, "as the server ended"
        http, grpc = (line for line in done.stdout.splitlines() if "restricted" in line)
        assert done.stdout.splitlines()[-1] == "--model-repository=/models"
        prefix = f"{','.join(RESTRICTED)}:{SECRET_HEADER}="
        assert http.startswith(f"--http-restricted-api={prefix}")
        secrets.add(http.rpartition("=")[2])
        assert grpc == f"--grpc-restricted-protocol={prefix}{http.rpartition('=')[2]}"
    assert len(secrets) == 2


# Helm's functions, as far as the chart uses them; what is piped to one is its last argument.
CALLS: dict[str, Callable[..., Any]] = {
    "add": lambda found, number: found + number,
    "default": lambda other, found: found or other,
    "dict": lambda *words: dict(zip(words[::2], words[1::2], strict=True)),
    "div": lambda found, number: found // number,
    "list": lambda *found: list(found),
    "nindent": lambda spaces, found: "\n" + indent(str(found), " " * spaces),
    "not": lambda found: not found,
    "or": lambda *found: next((each for each in found if each), found[-1]),
    "printf": lambda form, *found: form % found,
    "quote": lambda found: json.dumps(str(found)),
    "toYaml": lambda found: yaml.safe_dump(found).rstrip(),
}


def rendered(template: str, values: dict[str, Any], release: str = "zoo") -> list[dict[str, Any]]:
    """The objects of a chart's template, by the few of Helm's actions that it uses."""
    tokens = re.split(r"\{\{-?\s*(.*?)\s*-?\}\}", re.sub(r"[ \t]*(\{\{-)", r"\1", template))
    root = {"Values": values, "Release": {"Name": release}}

    def value(text: str, dot: Any) -> Any:
        words = re.findall(r'"[^"]*"|[()|]|[^\s()|]+', text)
        found = pipeline(words, dot)
        assert not words, text
        return found

    def pipeline(words: list[str], dot: Any) -> Any:
        """Takes its words away, up to the parenthesis that ends it."""
        piped: list[Any] = []
        while True:
            name = words.pop(0) if words[0] in CALLS else ""
            operands = []
            while words and words[0] not in (")", "|"):
                operands.append(operand(words, dot))
            piped = [CALLS[name](*operands, *piped) if name else operands[0]]
            if not words or words.pop(0) == ")":
                return piped[0]

    def operand(words: list[str], dot: Any) -> Any:
        word = words.pop(0)
        if word == "(":
            return pipeline(words, dot)
        if word.startswith('"') or word.isdigit():
            return json.loads(word)
        found = root if word.startswith("$") else dot
        for name in filter(None, word.lstrip("$").split(".")):
            found = found[name]
        return found

    def block(position: int, dot: Any, shown: bool) -> tuple[str, int]:
        text = ""
        while position < len(tokens):
            text += tokens[position] if shown else ""
            position += 1
            if position == len(tokens):
                break
            action, position = tokens[position], position + 1
            if action == "end":
                return text, position
            word, _, rest = action.partition(" ")
            if word in ("if", "with", "range"):
                found = value(rest, dot) if shown else None
                turns = (found if word == "range" else [found if word == "with" else dot]) if found else []
                after = block(position, dot, False)[1]
                text += "".join(block(position, each, True)[0] for each in turns)
                position = after
            elif shown:
                text += str(value(action, dot))
        return text, position

    return [each for each in yaml.safe_load_all(block(0, root, True)[0]) if each]


SM89 = {
    "name": "sm89",
    "nodeSelector": {"nvidia.com/gpu.compute.major": "8", "nvidia.com/gpu.compute.minor": "9"},
    "replicas": 2,
    "engine": "sm89",
    "path": "",
}
H100 = {
    "name": "h100",
    "nodeSelector": {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3"},
    "replicas": 1,
    "engine": "sm90",
    "path": "of/sm90",
}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("replicas", "two"),
        ("replicas", -1),
        ("resources.limits", None),
        ("resources.limits", {"memory": "16 GB"}),
        ("models.claim", ""),
        ("canarySeconds", 0),
        ("service.type", "Public"),
        ("replica", 2),
        ("autoscaling.most", 4),  # without what it reads
        ("autoscaling.queueSeconds", "soon"),
        ("disruption.unavailable", "all"),
        ("network.clients", [{}]),  # everybody
        ("network.clients", {"podSelector": {}}),
        ("door.metricsKey", "scraper"),  # without a door
        ("door.keys", "no/name"),
        ("door.options", ["--images=4 --host=0.0.0.0"]),
        ("drainSeconds", "5s"),
        ("fetch.generators", ["gan"]),  # from nowhere, and nobody vouches for it
        ("fetch.generators", ["gan --ungated"]),
        ("fetch.from", ["https://a b"]),
        ("fetch.cache", {"claim": "cache", "hostPath": "/cache", "size": "1Gi"}),
        ("fetch.cache", {"claim": "", "hostPath": "cache", "size": "1Gi"}),
        ("generations", [SM89 | {"name": "SM 89"}]),
        ("generations", [SM89 | {"nodeSelector": {}}]),  # any node
        ("generations", [SM89 | {"engine": "ada"}]),
        ("generations", [{"name": "sm89"}]),
    ],
)
def test_values_that_the_chart_cannot_render_are_refused(path: str, value: Any) -> None:
    schema = json.loads((DEPLOY / "chart" / "values.schema.json").read_text())
    values = yaml.safe_load((DEPLOY / "chart" / "values.yaml").read_text())
    jsonschema.validate(values, schema)
    *parents, name = path.split(".")
    inner = values
    for parent in parents:
        inner = inner[parent]
    inner[name] = value
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(values, schema)
    del inner[name]  # as Helm does with a null, before it looks at the schema
    if name != "replica":
        with pytest.raises(jsonschema.ValidationError, match="is a required property"):
            jsonschema.validate(values, schema)


KUBERNETES = "1.31"
OF_AN_OPERATOR = {"ServiceMonitor", "PrometheusRule"}  # which Kubernetes itself does not know
DOOR = {"door": {"keys": "the-keys", "metricsKey": "scraper", "options": ["--images=4"]}}
BOTH = {"generations": [SM89, H100]}
FETCHES = {
    "fetch": {
        "generators": ["gan", "ddpm-pd4"],
        "from": ["https://mirror/zoo", "oci://registry:5000/zoo"],
        "key": "the-publisher",
        "cache": {"claim": "", "hostPath": "", "size": "20Gi"},
    }
}
GROWS = {"autoscaling": {"most": 8}, "monitoring": {"enabled": True, "labels": {"release": "prometheus"}}}


def chart(*changes: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The objects of the whole chart by kind and name, each as Kubernetes' own schema has it."""
    folder = DEPLOY / "chart"
    values = yaml.safe_load((folder / "values.yaml").read_text())
    for change in changes:
        for name, value in change.items():
            values[name] = values[name] | value if isinstance(value, dict) else value
    jsonschema.validate(values, json.loads((folder / "values.schema.json").read_text()))
    found = [each for path in sorted((folder / "templates").iterdir()) for each in rendered(path.read_text(), values)]
    for each in found:
        if each["kind"] not in OF_AN_OPERATOR:
            kubernetes_validate.validate(each, KUBERNETES, strict=True)
    objects = {f"{each['kind']} {each['metadata']['name']}": each for each in found}
    assert len(objects) == len(found), "two of one name"
    return objects


@pytest.mark.parametrize(
    "changes",
    [
        (),
        (DOOR, GROWS),
        ({"gpus": 0, "replicas": 0},),
        ({"models": {"path": "a folder/with 'quotes': {and more}"}},),
        ({"models": {"claim": "123"}, "image": "host:5000/genzoo@sha256:0", "service": {"annotations": {"a/b": "1"}}},),
        ({"network": {"clients": [], "scrapers": [], "egress": [{"ports": [{"port": 4318}]}]}},),
        ({"network": {"clients": [{"ipBlock": {"cidr": "10.0.0.0/8"}}], "closed": True}},),
        ({"network": {"closed": False}, "disruption": {"unavailable": "50%"}, "drainSeconds": 0},),
        ({"resources": {"requests": {}, "limits": {}}, "gpus": 8, "sharedMemory": 1073741824},),
        ({"tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}], "nodeSelector": {"a": "true"}},),
        (GROWS, {"autoscaling": {"queueSeconds": 2, "downSeconds": 0}}),
        ({"cluster": {"workers": 2, "results": "1e3"}},),
        (FETCHES, DOOR, {"gpus": 0}),
        (FETCHES, {"fetch": {"cache": {"claim": "1e3", "hostPath": "", "size": 1}}}),
        (FETCHES, {"fetch": {"from": ["https://host/a?b={c}&d='e'#f"]}}),
    ],
)  # fmt: skip
def test_odd_values_are_objects_that_kubernetes_takes(changes: Sequence[Mapping[str, Any]]) -> None:
    assert "Deployment zoo" in chart(*changes)


def test_each_generation_of_gpus_has_its_pods_and_all_are_one_service() -> None:
    objects = chart(BOTH, FETCHES, GROWS, {"nodeSelector": {"pool": "others"}})
    found = {name: each for name, each in objects.items() if name.startswith("Deployment")}
    assert set(found) == {"Deployment zoo-sm89", "Deployment zoo-h100"}
    selected = []
    for generation in (SM89, H100):
        deployment = found[f"Deployment zoo-{generation['name']}"]["spec"]
        labels = deployment["template"]["metadata"]["labels"]
        assert deployment["selector"]["matchLabels"] == labels
        selected.append(labels)
        pod = deployment["template"]["spec"]
        assert pod["nodeSelector"] == generation["nodeSelector"], "nobody else's"
        assert f"--engine={generation['engine']}" in pod["containers"][0]["args"]
        scaler = objects[f"HorizontalPodAutoscaler zoo-{generation['name']}"]["spec"]
        assert scaler["scaleTargetRef"]["name"] == f"zoo-{generation['name']}"
        assert scaler["minReplicas"] == generation["replicas"]
    assert selected[0] != selected[1], "no Deployment takes the other's pods"
    for service in ("Service zoo", "Service zoo-pods"):
        assert all(objects[service]["spec"]["selector"].items() <= labels.items() for labels in selected)
    assert objects["NetworkPolicy zoo"]["spec"]["podSelector"]["matchLabels"].items() <= selected[0].items()


def test_a_generation_has_its_repository_in_the_claim() -> None:
    mounts = [
        {each["name"]: each for each in deployment["spec"]["template"]["spec"]["containers"][0]["volumeMounts"]}
        for name, deployment in chart(BOTH, {"models": {"path": "of/all"}}).items() if name.startswith("Deployment")
    ]  # fmt: skip
    assert [each["models"].get("subPath") for each in mounts] == [None, "of/sm90"]
    assert all(each["models"]["readOnly"] and "cache" not in each for each in mounts)


@pytest.mark.parametrize(
    ("cache", "volume"),
    [
        ({}, {"emptyDir": {"sizeLimit": "20Gi"}}),
        ({"claim": "many"}, {"persistentVolumeClaim": {"claimName": "many"}}),
        ({"hostPath": "/var/cache/zoo"}, {"hostPath": {"path": "/var/cache/zoo", "type": "Directory"}}),
    ],
)
def test_what_was_pulled_stays_where_it_is_said(cache: dict[str, str], volume: dict[str, Any]) -> None:
    changed = {"fetch": {**FETCHES["fetch"], "cache": {"claim": "", "hostPath": "", "size": "20Gi"} | cache}}
    pod = chart(changed)["Deployment zoo"]["spec"]["template"]["spec"]
    volumes = {each.pop("name"): each for each in pod["volumes"]}
    assert volumes["cache"] == volume
    assert "emptyDir" in volumes["models"], "nobody's claim"
    assert pod["securityContext"]["fsGroup"] == pod["securityContext"]["runAsUser"]
    [triton] = pod["containers"]
    mounts = {each["name"]: each for each in triton["volumeMounts"]}
    assert set(mounts) == set(volumes)
    assert {each["name"]: each["value"] for each in triton["env"]}["GENZOO_HOME"] == mounts["cache"]["mountPath"]
    assert not any(mounts[name].get("readOnly") for name in ("models", "cache"))
    assert triton["args"] == [
        "--fetch=gan",
        "--fetch=ddpm-pd4",
        f"--key={mounts['publisher']['mountPath']}/key.pem",
        "--from=https://mirror/zoo",
        "--from=oci://registry:5000/zoo",
    ]


def test_a_busy_pod_is_not_started_again() -> None:
    """Liveness asks Triton itself; an image, which may wait, decides who gets requests."""
    [triton] = chart()["Deployment zoo"]["spec"]["template"]["spec"]["containers"]
    assert triton["livenessProbe"]["httpGet"]["path"] == "/v2/health/live"
    assert "serving.canary" in triton["readinessProbe"]["exec"]["command"]


def test_a_pod_is_closed_and_leaves_without_losing_a_request() -> None:
    pod = chart(DOOR)["Deployment zoo"]["spec"]["template"]["spec"]
    assert [each["name"] for each in pod["containers"]] == ["triton", "door"]
    for container in pod["containers"]:
        closed = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
        assert container["securityContext"] == closed
        assert container["lifecycle"]["preStop"] == {"exec": {"command": ["sleep", "5"]}}
        mounts = {each["name"]: each for each in container["volumeMounts"]}
        assert mounts["tmp"]["mountPath"] == "/tmp" == {e["name"]: e["value"] for e in container["env"]}["HOME"]
        assert set(mounts) <= {each["name"] for each in pod["volumes"]}
    exit_s = int(re.findall(r"--exit-timeout-secs=(\d+)", (DEPLOY / "Dockerfile").read_text())[0])
    assert pod["terminationGracePeriodSeconds"] >= 5 + exit_s
    spread = {each["topologyKey"]: each["labelSelector"]["matchLabels"] for each in pod["topologySpreadConstraints"]}
    assert set(spread) == {"kubernetes.io/hostname", "topology.kubernetes.io/zone"}
    assert all(labels["app.kubernetes.io/instance"] == "zoo" for labels in spread.values())


def test_the_door_of_a_pod_is_one_that_opens(tmp_path: Path) -> None:
    """What its container is told, as a process here: it waits for a server, and says that none came."""
    keys = tmp_path / "keys"
    keys.write_text("anna anna-has-a-long-key\n")
    pod = chart(DOOR, {"startSeconds": 5})["Deployment zoo"]["spec"]["template"]["spec"]
    [door] = (each for each in pod["containers"] if each["name"] == "door")
    [mount] = (each for each in door["volumeMounts"] if each["name"] == "keys")
    here = {
        f"{mount['mountPath']}/keys": str(keys),
        "0.0.0.0": "127.0.0.1",
        "8080": "0",
        "127.0.0.1:8001": "127.0.0.1:1",
    }
    words = [*door["command"], *door["args"]]
    for there, mine in here.items():
        words = [word.replace(f"={there}", f"={mine}") for word in words]
    done = subprocess.run([sys.executable, *words[1:]], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "no Triton server answers at 127.0.0.1:1" in done.stderr
    assert door["startupProbe"]["httpGet"] == {"path": "/health", "port": "openai"}


def test_an_update_needs_no_spare_gpu() -> None:
    def rollout(gpus: int) -> Any:
        return chart({"gpus": gpus})["Deployment zoo"]["spec"]["strategy"]["rollingUpdate"]

    assert rollout(1) == {"maxSurge": 0, "maxUnavailable": 1}
    assert rollout(0) == {"maxSurge": 1, "maxUnavailable": 0}


def test_replicas_follow_the_queue_and_nobody_else_counts_them() -> None:
    still, grows = chart(), chart(GROWS)
    assert still["Deployment zoo"]["spec"]["replicas"] == 1
    assert "HorizontalPodAutoscaler zoo" not in still
    assert "replicas" not in grows["Deployment zoo"]["spec"]
    scaler = grows["HorizontalPodAutoscaler zoo"]["spec"]
    assert (scaler["minReplicas"], scaler["maxReplicas"]) == (1, 8)
    [metric] = (each["pods"] for each in scaler["metrics"])
    assert metric["target"] == {"type": "AverageValue", "averageValue": "500m"}
    [rule] = grows["PrometheusRule zoo"]["spec"]["groups"][0]["rules"]
    assert rule["record"] == metric["metric"]["name"]
    assert grows["PodDisruptionBudget zoo"]["spec"]["maxUnavailable"] == 1


def test_only_who_may_reaches_a_pod() -> None:
    without, with_door = chart()["NetworkPolicy zoo"]["spec"], chart(DOOR)["NetworkPolicy zoo"]["spec"]
    clients, scrapers = without["ingress"]
    assert [each["port"] for each in clients["ports"]] == ["http", "grpc"]
    assert clients["from"] == [{"podSelector": {}}]
    assert [each["port"] for each in scrapers["ports"]] == ["metrics"]
    assert [each["port"] for each in with_door["ingress"][0]["ports"]] == ["openai"], "before Triton there is the door"
    assert "egress" not in without
    assert without["policyTypes"] == ["Ingress", "Egress"]
    named = {
        port["name"] for each in chart(DOOR)["Deployment zoo"]["spec"]["template"]["spec"]["containers"]
        for port in each["ports"]
    }  # fmt: skip
    assert named == {"http", "grpc", "metrics", "openai"}


def test_what_is_scraped_is_a_port_of_the_service() -> None:
    objects = chart(DOOR, GROWS)
    ports = {each["name"] for each in objects["Service zoo"]["spec"]["ports"]}
    endpoints = objects["ServiceMonitor zoo"]["spec"]["endpoints"]
    assert {each["port"] for each in endpoints} == {"metrics", "openai"} <= ports
    assert endpoints[1]["authorization"]["credentials"] == {"name": "the-keys", "key": "scraper"}
    assert objects["ServiceMonitor zoo"]["metadata"]["labels"]["release"] == "prometheus"
    assert objects["Service zoo-pods"]["spec"]["clusterIP"] == "None", "gRPC's clients see every pod"


def test_the_job_is_a_ray_cluster_whose_head_takes_no_work(tmp_path: Path) -> None:
    chart = DEPLOY / "chart"
    values = yaml.safe_load((chart / "values.yaml").read_text())
    template = (chart / "templates" / "job.yaml").read_text()
    assert rendered(template, values) == [], "a cluster that nobody asked for"
    values["cluster"] |= {"workers": 3, "results": "results"}
    service, job = rendered(template, values)
    assert service["spec"]["clusterIP"] == "None"
    spec = job["spec"]
    assert (spec["completionMode"], spec["completions"], spec["parallelism"]) == ("Indexed", 4, 4)
    assert spec["successPolicy"]["rules"] == [{"succeededIndexes": "0"}]
    pod = spec["template"]["spec"]
    assert pod["subdomain"] == service["metadata"]["name"]
    assert spec["template"]["metadata"]["labels"] == service["spec"]["selector"]
    [container] = pod["containers"]
    assert container["resources"]["requests"] == container["resources"]["limits"]
    assert {each["name"] for each in container["volumeMounts"]} == {each["name"] for each in pod["volumes"]}
    script, name, *command = container["args"]
    assert name == "genzoo"
    assert command == values["cluster"]["command"]
    subprocess.run(["sh", "-n", "-c", script], check=True)
    # As it would run, with programs that say what they were asked.
    for program in ("ray", "genzoo", "hostname", "python3"):
        (tmp_path / program).write_text(f'#!/bin/sh\necho "{program} $@"\n')
        (tmp_path / program).chmod(0o755)

    def said(index: int) -> list[str]:
        environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "JOB_COMPLETION_INDEX": str(index)}
        words = [*container["command"], script, name, *command]
        return subprocess.run(words, env=environment, capture_output=True, text=True, check=True).stdout.splitlines()

    head, genzoo = said(0)
    assert head.startswith("ray start --head --port 6379 --num-cpus 0 ")
    assert genzoo == f"genzoo {' '.join(command)} --ray hostname -i:6379"
    node = said(2)[-1]
    assert node.startswith("ray start --address zoo-cluster-0.zoo-cluster:6379 --node-name node-2 --num-cpus 4 ")
    options = CliRunner().invoke(cli.app, [command[0], "--help"], env={"COLUMNS": "200", "NO_COLOR": "1"}).output
    assert all(word in options for word in (*command, "--ray") if word.startswith("--"))
