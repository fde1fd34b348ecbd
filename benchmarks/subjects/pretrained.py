"""A student of a network with published weights, as the example trains it."""

from benchmarks.harness.example import run_example
from benchmarks.harness.report import Table

TITLE = "A student of EfficientNet-Lite0 with ImageNet's weights"
QUICK = ["--crops", "16", "--epochs", "1"]


def run(quick: bool = False) -> list[Table]:
    (head, *rows), printed = run_example(
        "distill_pretrained", QUICK if quick else []
    )
    # Of all that is printed, the bars aside: the teacher's time, the sizes.
    lines = printed.splitlines()
    told = [x for x in lines if x.startswith(("The teacher took", "Param"))]
    return [
        Table(
            head,
            "Without labels, on crops of six photographs; judged on other "
            f"crops of them. {'. '.join(told)}.",
            rows,
        )
    ]
