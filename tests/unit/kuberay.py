# ruff: noqa: N815  the names are those of Kubernetes
"""What cluster/*.yaml may hold for KubeRay 1.5 and for Kubernetes: the fields that are used here, and no other.

Written from the API reference, as no package ships the definitions of RayCluster and RayJob; stricter than they are, which drop an
unknown key without a word.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

Name = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", max_length=50)]
Quantity = Annotated[str, Field(pattern=r"^[0-9]+(\.[0-9]+)?(m|[KMGT]i?)?$")]
Labels = dict[Annotated[str, Field(pattern=r"^([a-z0-9.-]+/)?[A-Za-z0-9._-]+$")], str]
Resource = Literal["cpu", "memory", "nvidia.com/gpu"]
Parameter = Literal["num-cpus", "num-gpus"]
Count = Annotated[int, Field(ge=0)]


class Part(BaseModel):
    """Unknown keys, and values of another type, are refused."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Metadata(Part):
    name: Name


class Resources(Part):
    requests: dict[Resource, Quantity]
    limits: dict[Resource, Quantity]


class Variable(Part):
    name: Annotated[str, Field(pattern=r"^[A-Z_][A-Z0-9_]*$")]
    value: str


class Port(Part):
    containerPort: int
    name: Name


class Mount(Part):
    name: Name
    mountPath: Annotated[str, Field(pattern="^/")]


class Container(Part):
    name: Literal["ray-head", "ray-worker"]
    image: str
    env: list[Variable]
    ports: list[Port] = []
    resources: Resources
    volumeMounts: list[Mount]


class Claim(Part):
    claimName: Name


class Volume(Part):
    name: Name
    persistentVolumeClaim: Claim


class Toleration(Part):
    key: str
    operator: Literal["Exists"]
    effect: Literal["NoSchedule"]


class SecurityContext(Part):
    runAsUser: int
    runAsNonRoot: Literal[True]
    fsGroup: int


class PodSpec(Part):
    securityContext: SecurityContext
    tolerations: list[Toleration] = []
    containers: Annotated[list[Container], Field(min_length=1, max_length=1)]
    volumes: list[Volume]


class Template(Part):
    spec: PodSpec


class Head(Part):
    rayStartParams: dict[Parameter, str]
    template: Template


class Group(Part):
    groupName: Name
    replicas: Count
    minReplicas: Count
    maxReplicas: Count
    rayStartParams: dict[Parameter, str]
    template: Template


class AuthOptions(Part):
    mode: Literal["token"]


class AutoscalerOptions(Part):
    version: Literal["v1", "v2"]
    idleTimeoutSeconds: Annotated[int, Field(gt=0)]
    upscalingMode: Literal["Default", "Aggressive", "Conservative"]
    resources: Resources


class ClusterSpec(Part):
    rayVersion: str
    authOptions: AuthOptions
    enableInTreeAutoscaling: Literal[True]
    autoscalerOptions: AutoscalerOptions
    headGroupSpec: Head
    workerGroupSpecs: list[Group]


class RayCluster(Part):
    apiVersion: Literal["ray.io/v1"]
    kind: Literal["RayCluster"]
    metadata: Metadata
    spec: ClusterSpec


class ClusterSelector(Part):
    cluster: Name = Field(alias="ray.io/cluster")


class JobSpec(Part):
    clusterSelector: ClusterSelector
    jobId: Name
    entrypoint: str
    submissionMode: Literal["K8sJobMode", "HTTPMode", "SidecarMode"]


class RayJob(Part):
    apiVersion: Literal["ray.io/v1"]
    kind: Literal["RayJob"]
    metadata: Metadata
    spec: JobSpec


class Selector(Part):
    matchLabels: Labels = {}


class Peer(Part):
    podSelector: Selector
    namespaceSelector: Selector | None = None


class Ingress(Part):
    peers: list[Peer] = Field(alias="from")


class PolicySpec(Part):
    podSelector: Selector
    policyTypes: list[Literal["Ingress"]]
    ingress: list[Ingress]


class NetworkPolicy(Part):
    apiVersion: Literal["networking.k8s.io/v1"]
    kind: Literal["NetworkPolicy"]
    metadata: Metadata
    spec: PolicySpec


Manifest = TypeAdapter(Annotated[RayCluster | RayJob | NetworkPolicy, Field(discriminator="kind")])
