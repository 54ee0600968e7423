"""Google Kubernetes Engine: a JobSet to apply, and the XPK command that makes one of its own."""

import json
import shlex

from jaxsrl.clusters.hardware import Hardware
from jaxsrl.clusters.launch.job import PORT, Job, Rendered, require, train

TPUS = {"v5e": "tpu-v5-lite-podslice", "v5p": "tpu-v5p-slice", "v6e": "tpu-v6e-slice"}
GPUS = {"h100": "nvidia-h100-80gb", "h200": "nvidia-h200-141gb"}
GRACE = 300  # seconds in which a pod that is told to stop saves
JOBSET = """\
# {name} on {devices}. kubectl apply -f FILE; the same file goes on after any stop.
# A pod that is evicted saves and ends with 75; the JobSet starts all of them again. A wrong config (2) ends it, and so
# does a divergence (3).
apiVersion: jobset.x-k8s.io/v1alpha2
kind: JobSet
metadata:
  name: {name}
  namespace: {namespace}
  annotations:
    alpha.jobset.sigs.k8s.io/exclusive-topology: cloud.google.com/gke-nodepool
spec:
  failurePolicy:
    maxRestarts: {restarts}
    rules:
      - action: FailJobSet
        onJobFailureReasons: [PodFailurePolicy]
  replicatedJobs:
    - name: worker
      replicas: {replicas}
      template:
        spec:
          parallelism: {pods}
          completions: {pods}
          completionMode: Indexed
          backoffLimit: 0
          podFailurePolicy:
            rules:
              - action: FailJob
                onExitCodes:
                  containerName: train
                  operator: In
                  values: [2, 3]
          template:
            spec:
              restartPolicy: Never
              terminationGracePeriodSeconds: {grace}
              nodeSelector:
{selector}
              tolerations:
                - operator: Exists
                  key: {resource}
              containers:
                - name: train
                  image: {image}
                  workingDir: {shared}
                  command: [bash, -c]
                  args:
                    - {command}
                  env:
{environment}
                  resources:
                    requests:
                      {resource}: {each}
                    limits:
                      {resource}: {each}
                  volumeMounts:
                    - name: shared
                      mountPath: {shared}
                    - name: memory
                      mountPath: /dev/shm
              volumes:
                - name: shared
                  persistentVolumeClaim:
                    claimName: {claim}
                - name: memory
                  emptyDir:
                    medium: Memory
"""


def render(job: Job) -> Rendered:
    """Raises: ValueError for options that are missing."""
    require(job, "gke", "image", "claim")
    devices, place = job.devices, job.place
    tpu = devices.chip.platform == "tpu"
    # Slices are jobs of the JobSet, their hosts its pods; nodes of GPUs are pods of one job.
    replicas, pods = (devices.groups, devices.hosts // devices.groups) if tpu else (1, devices.groups)
    text = JOBSET.format(
        name=job.name, devices=devices.name, namespace=place.namespace, restarts=job.restarts, replicas=replicas,
        pods=pods, grace=GRACE, selector=_lines(_selector(job), 16), image=json.dumps(place.image),
        shared=json.dumps(place.shared), command=json.dumps(_command(job)),
        environment=_environment(job, replicas, pods),
        resource="google.com/tpu" if tpu else "nvidia.com/gpu", each=devices.host_devices, claim=place.claim,
    )  # fmt: skip
    kubectl = ("kubectl", "--namespace", place.namespace)
    files = {"jobset.yaml": text}
    if place.cluster:
        files["xpk.sh"] = _xpk(job)
    return Rendered(
        files=files,
        start=((*kubectl, "apply", "-f", f"{job.folder}/jobset.yaml"),),
        status=((*kubectl, "get", "jobset,pods", "-l", f"jobset.sigs.k8s.io/jobset-name={job.name}"),),
        logs=((*kubectl, "logs", "-f", "--tail=50", f"job/{job.name}-worker-0"),),
        stop=((*kubectl, "delete", "jobset", job.name),),
    )


def _command(job: Job) -> str:
    """What a pod runs: its own log goes to the shared folder too, one file for each attempt and pod."""
    run = train(job, f"/opt/jaxsrl/{job.config}", job.place.all_runs)
    return (
        f"logs={shlex.quote(job.place.shared)}/launches/{job.name}/logs; mkdir -p \"$logs\"; "
        'env | grep -E "^(JAX|XLA|LIBTPU|NCCL|TPU)_" | sort > "$logs/$HOSTNAME.environment.txt"; '
        f'exec python3 {run} > >(tee "$logs/$HOSTNAME.txt") 2>&1'
    )  # fmt: skip


def _selector(job: Job) -> dict[str, str]:
    devices = job.devices
    if devices.chip.platform == "tpu":
        found = {
            "cloud.google.com/gke-tpu-accelerator": TPUS[devices.chip.name],
            "cloud.google.com/gke-tpu-topology": devices.topology.partition(":")[2],
        }
    else:
        found = {"cloud.google.com/gke-accelerator": GPUS[devices.chip.name]}
    return found | ({"cloud.google.com/gke-spot": "true"} if job.place.spot else {})


def _lines(values: dict[str, str], indent: int) -> str:
    return "\n".join(f"{' ' * indent}{name}: {json.dumps(value)}" for name, value in values.items())


def _environment(job: Job, replicas: int, pods: int) -> str:
    """Of GPUs the three variables of `start.py`; TPUs are told by GKE who the others are."""
    values = dict(job.environment)
    lines = []
    if job.devices.chip.platform == "gpu":
        values |= {
            "JAX_COORDINATOR_ADDRESS": f"{job.name}-worker-0-0.{job.name}:{PORT}",
            "JAX_NUM_PROCESSES": str(replicas * pods),
        }
        lines = [
            "- name: JAX_PROCESS_ID", "  valueFrom:", "    fieldRef:",
            "      fieldPath: metadata.annotations['batch.kubernetes.io/job-completion-index']",
        ]  # fmt: skip
    for name, value in sorted(values.items()):
        lines += [f"- name: {name}", f"  value: {json.dumps(value)}"]
    return "\n".join(" " * 20 + line for line in lines)


def _xpk(job: Job) -> str:
    """The same workload through XPK, which writes a JobSet of its own."""
    place, devices = job.place, job.devices
    words = [
        "xpk", "workload", "create", f"--workload={job.name}", f"--cluster={place.cluster}", *_xpk_devices(devices),
        f"--docker-image={place.image}", f"--max-restarts={job.restarts}",
        *(f"--env={name}={value}" for name, value in sorted(job.environment.items())),
        *([f"--zone={place.zone}"] if place.zone else []), *([f"--project={place.project}"] if place.project else []),
        f"--command=cd {place.shared} && python3 {train(job, f'/opt/jaxsrl/{job.config}', place.all_runs)}",
    ]  # fmt: skip
    return "#!/usr/bin/env bash\n# Instead of jobset.yaml, on a cluster that XPK made, with the volume attached.\n" + (
        " \\\n    ".join(shlex.quote(word) for word in words) + "\n"
    )


def _xpk_devices(devices: Hardware) -> list[str]:
    if devices.chip.platform == "tpu":
        return [f"--tpu-type={devices.accelerator_type}", f"--num-slices={devices.groups}"]
    kind = {"h100": "h100-mega-80gb-8", "h200": "h200-141gb-8"}[devices.chip.name]
    return [f"--device-type={kind}", f"--num-nodes={devices.groups}"]
