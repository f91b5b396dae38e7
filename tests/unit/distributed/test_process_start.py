"""What the process of a trial waits for when it starts."""

import subprocess
import sys

HEAVY = ("torchvision", "open_clip", "transformers", "timm", "optuna", "mlflow", "matplotlib", "av")


def test_a_trial_process_imports_neither_encoders_nor_what_the_driver_needs():
    script = f"import sys, xmadapter.distributed.trial_actor; print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
