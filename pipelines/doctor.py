"""Check a cluster before its first job: token, versions, tracking server, store, GPUs and clock of every node.

ray job submit --working-dir . -- python -m pipelines.doctor store=FOLDER cluster.address=auto [cluster.encoder_gpus=1] [a.b=value ...]

python -m pipelines.doctor store=FOLDER
"""

from xmadapter.config.doctor import DoctorConfig
from xmadapter.distributed.doctor import examine
from xmadapter.entry import entry_point
from xmadapter.errors import ConfigError


@entry_point(DoctorConfig)
def main(config: DoctorConfig) -> None:
    """Print what was found; fail if anything would cost a job."""
    findings = examine(config)
    print(*findings, sep="\n")
    failed = [finding.check for finding in findings if finding.state == "fail"]
    if failed:
        raise ConfigError(
            f"{len(failed)} of {len(findings)} checks failed: {', '.join(sorted(set(failed)))}; see above"
        )


if __name__ == "__main__":
    main()
